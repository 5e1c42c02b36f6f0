package concurrency

import (
	"context"
	"time"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/etcdcall/internal/patience"
)

// pauses are those between attempts at anything that waits for the cluster
// itself, rather than for another holder: some ten attempts ride through an
// election.
var pauses = reprise.Backoff{Initial: 25 * time.Millisecond, Max: time.Second}

// attemptTimeout bounds one attempt at a request, so that an endpoint that has
// silently vanished does not use up the time of the whole.
const attemptTimeout = 5 * time.Second

// newAttempts bounds the attempts of requests that have something in common.
func newAttempts() *patience.Patience { return patience.New(attemptTimeout) }

// repeatable makes a request that may be made twice without harm: a read, or a
// transaction whose comparisons see to it. It is repeated through every failure
// that may pass, also when an attempt's outcome is unknown, until ctx ends. Each
// of its attempts is one of p.
func repeatable[T any](ctx context.Context, p *patience.Patience, request func(ctx context.Context) (T, error)) (T, error) {
	return reprise.Do(ctx, func(ctx context.Context) (T, error) { return attempt(ctx, p, request) }, repeatedly)
}

var repeatedly = reprise.WithRetry(func() reprise.Retryer { return etcdcall.OnReads(pauses) })

func attempt[T any](ctx context.Context, p *patience.Patience, request func(ctx context.Context) (T, error)) (T, error) {
	parent := ctx
	if b, ok := ctx.(*bound); ok && p == b.term.attempts {
		parent = b.Context // the attempts of a term end with it
	}
	var a patience.Attempt
	resp, err := request(p.Begin(parent, &a))
	if p.End(&a) && err != nil && ctx.Err() == nil {
		err = &reprise.AttemptTimeoutError{Timeout: attemptTimeout, Err: err}
	}
	return resp, err
}
