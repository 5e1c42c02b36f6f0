package etcdcall

import (
	"context"
	"sync"
	"time"

	"github.com/reprise-go/reprise"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// patience bounds the attempts of one client, all by the same time. They end in
// the order in which they began, so that one timer and a list do for them what
// [reprise.WithAttemptTimeout] does with a timer for each, and servers are not
// told a deadline that they would have to set a timer for: together that takes
// more time than all else that this package adds to a read that succeeds. A
// server learns of the end of an attempt when the attempt is cancelled.
type patience struct {
	limit time.Duration

	mu          sync.Mutex
	first, last *bounded
	timer       *time.Timer
	set         bool // the timer will look at the list
}

// bounded is an attempt under way. Its fields belong to the lock of its patience.
type bounded struct {
	until      time.Time
	cancel     context.CancelFunc
	prev, next *bounded
	over       bool
}

// newPatience returns nil, which bounds nothing, for a limit that is none.
func newPatience(limit time.Duration) *patience {
	if limit <= 0 {
		return nil
	}
	return &patience{limit: limit}
}

// begin returns the context of an attempt that begins now. Its end must follow.
func (p *patience) begin(ctx context.Context, b *bounded) context.Context {
	ctx, b.cancel = context.WithCancel(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	b.until = time.Now().Add(p.limit)
	if b.prev = p.last; b.prev != nil {
		b.prev.next = b
	} else {
		p.first = b
	}
	p.last = b
	if !p.set {
		p.setTimer(p.limit)
	}
	return ctx
}

// end reports whether the attempt was cancelled for taking too long.
func (p *patience) end(b *bounded) bool {
	p.mu.Lock()
	over := b.over
	if !over {
		p.remove(b)
	}
	p.mu.Unlock()
	b.cancel()
	return over
}

func (p *patience) remove(b *bounded) {
	if b.prev != nil {
		b.prev.next = b.next
	} else {
		p.first = b.next
	}
	if b.next != nil {
		b.next.prev = b.prev
	} else {
		p.last = b.prev
	}
	b.prev, b.next = nil, nil
}

func (p *patience) setTimer(d time.Duration) {
	p.set = true
	if p.timer == nil {
		p.timer = time.AfterFunc(d, p.look)
	} else {
		p.timer.Reset(d)
	}
}

// look ends the attempts that are overdue, and looks again when the next will be,
// if there is one.
func (p *patience) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for b := p.first; b != nil && !now.Before(b.until); b = p.first {
		p.remove(b)
		b.over = true
		b.cancel()
	}
	if p.set = p.first != nil; p.set {
		p.setTimer(p.first.until.Sub(now))
	}
}

// errAttemptOver is what an attempt fails with that its patience has cancelled.
var errAttemptOver = status.Error(codes.DeadlineExceeded, "etcdcall: the attempt took too long")

// overdue returns the error of an attempt that was cancelled for taking too long
// under ctx. One that a server answered all the same has that answer.
func (p *patience) overdue(ctx context.Context, err error) error {
	if ctx.Err() != nil || status.Code(err) != codes.Canceled {
		return err
	}
	if failed, ok := err.(*attemptError); ok { //nolint:errorlint // it comes straight from attempt.end
		failed.raw = errAttemptOver
	} else {
		err = errAttemptOver
	}
	return &reprise.AttemptTimeoutError{Timeout: p.limit, Err: err}
}
