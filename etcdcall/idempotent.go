package etcdcall

import (
	"context"
	"errors"

	"github.com/reprise-go/reprise"
)

// callTwice makes a call of class idempotentWrite, which may be sent again even
// if it may have been applied, since a second time changes nothing more.
//
// A second time may be refused because the first one did its work. After an
// attempt of unknown outcome, done is shown such an answer and says whether it
// means that the work is done, and what the response is then. It may be nil.
func (b *bound[Req, Resp]) callTwice(ctx context.Context, req *Req, done func(error) (*Resp, bool)) (*Resp, error) {
	unknown := false
	retryer := func() reprise.Retryer {
		return newRetryer(b.policy.backoff, func(r *rule) verdict {
			unknown = unknown || r.applied != NotApplied
			return r.read
		}, b.policy.allows)
	}
	resp, err := b.call(ctx, req, reprise.WithRetry(retryer))
	switch {
	case err == nil:
		return resp, nil
	case !unknown:
		return nil, writeError(b.method, err)
	case done != nil && refused(err):
		if resp, ok := done(err); ok {
			return resp, nil
		}
	}
	return nil, &AmbiguousError{Method: b.method, Err: err}
}

// refused reports whether err is the answer of an attempt, and not the end of
// the call's time.
func refused(err error) bool {
	_, stopped := errors.AsType[*reprise.Error](err)
	return !stopped
}
