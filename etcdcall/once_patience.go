package etcdcall

import (
	"context"
	"errors"
	"time"

	"github.com/reprise-go/reprise"
)

// The attempts of exactly-once writes are bounded by one goroutine that looks
// over the slots, where other calls set a timer and tell the server a deadline
// for each attempt: that costs a write that succeeds some 2 % of its
// throughput. In return an attempt may last a quarter longer than it should.

// underWay is the attempt that a slot serves.
type underWay struct {
	since time.Duration // of keeper.elapsed
	end   context.CancelCauseFunc
}

var errAttemptOver = errors.New("etcdcall: the attempt took too long")

// patiently makes an attempt within the attempt timeout.
func (s *slot) patiently(ctx context.Context, attempt func(context.Context) error) error {
	k := s.id.keeper
	if k.attemptTimeout <= 0 {
		return attempt(ctx)
	}
	own, end := context.WithCancelCause(ctx)
	defer end(nil)
	s.underWay.Store(&underWay{since: k.elapsed(), end: end})
	err := attempt(own)
	s.underWay.Store(nil)
	if err != nil && errors.Is(context.Cause(own), errAttemptOver) {
		return &reprise.AttemptTimeoutError{Timeout: k.attemptTimeout, Err: err}
	}
	return err
}

// endAttempts ends attempts that take too long, until ctx is done.
func (id *identity) endAttempts(ctx context.Context) {
	limit := id.keeper.attemptTimeout
	if limit <= 0 {
		return
	}
	tick := time.NewTicker(max(limit/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			id.endOverdue(id.keeper.elapsed() - limit)
		}
	}
}

func (id *identity) endOverdue(since time.Duration) {
	id.mu.Lock()
	defer id.mu.Unlock()
	for _, s := range id.slots {
		if u := s.underWay.Load(); u != nil && u.since <= since {
			u.end(errAttemptOver)
		}
	}
}
