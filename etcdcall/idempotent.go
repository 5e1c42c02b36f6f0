package etcdcall

import (
	"context"
	"errors"

	"github.com/reprise-go/reprise"
)

// suspense is the state of one call that may be sent again though it may have
// been applied: the first error after which that was so.
type suspense struct{ since error }

// retryer retries whatever may pass, and notes when the outcome became unknown.
// Beyond the table, doubt names rules that leave it unknown for this method; it
// may be nil.
func (s *suspense) retryer(p *policy, doubt func(*rule) bool) reprise.CallOption {
	return reprise.WithRetry(func() reprise.Retryer {
		return newJudge(p.backoff, func(r *rule, err error) verdict {
			if s.since == nil && (r.applied != NotApplied || doubt != nil && doubt(r)) {
				s.since = err
			}
			return r.read
		}, p.allows)
	})
}

// confirmation tells of a refusal that came after an attempt of unknown outcome
// whether it means that the work is done, and what the response is then.
type confirmation[Resp any] func(refusal error) (*Resp, bool)

// twice makes a call of class idempotentWrite, which may be sent again even if
// it may have been applied, since a second time changes nothing more. A second
// time may be refused because the first did its work; done, which may be nil,
// is asked then.
func (b *bound[Req, Resp]) twice(ctx context.Context, req *Req, done confirmation[Resp]) (*Resp, error) {
	return b.twiceIn(ctx, req, new(suspense), nil, done)
}

func (b *bound[Req, Resp]) twiceIn(ctx context.Context, req *Req, s *suspense, doubt func(*rule) bool, done confirmation[Resp]) (*Resp, error) {
	resp, err := b.call(ctx, req, s.retryer(b.policy, doubt))
	switch {
	case err == nil:
		return resp, nil
	case s.since == nil:
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

// doneOn confirms by the answer alone: want says that the state is as asked for.
func doneOn[Resp any](want error, resp *Resp) confirmation[Resp] {
	return func(refusal error) (*Resp, bool) { return resp, errors.Is(refusal, want) }
}
