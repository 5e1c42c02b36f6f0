package concurrency

import (
	"context"
	"time"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
)

// pauses are those between attempts at anything that waits for the cluster
// itself, rather than for another holder: some ten attempts ride through an
// election.
var pauses = reprise.Backoff{Initial: 25 * time.Millisecond, Max: time.Second}

// attemptTimeout bounds one attempt at a request, so that an endpoint that has
// silently vanished does not use up the time of the whole.
const attemptTimeout = 5 * time.Second

// repeatable makes a request that may be made twice without harm: a read, or a
// transaction whose comparisons see to it. It is repeated through every failure
// that may pass, also when an attempt's outcome is unknown, until ctx ends.
func repeatable[T any](ctx context.Context, request func(ctx context.Context) (T, error)) (T, error) {
	return reprise.Do(ctx, func(ctx context.Context) (T, error) { return timed(ctx, request) }, repeatedly)
}

var repeatedly = reprise.WithRetry(func() reprise.Retryer {
	return reprise.OnAttemptTimeout(etcdcall.OnReads(pauses))
})

// timed makes one attempt at a request. When its time is up, it is canceled: a
// deadline would travel along with it and cost both sides more than all else
// that this package adds to a request.
func timed[T any](ctx context.Context, request func(ctx context.Context) (T, error)) (T, error) {
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(attemptTimeout, cancel)
	resp, err := request(own)
	if !late.Stop() && err != nil && ctx.Err() == nil {
		err = &reprise.AttemptTimeoutError{Timeout: attemptTimeout, Err: err}
	}
	return resp, err
}
