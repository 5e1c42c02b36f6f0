package etcdcall

import (
	"errors"

	"github.com/reprise-go/reprise"
)

// OnReads returns a Retryer for calls that change nothing: it retries every
// failure that may pass, as docs/etcd-errors.md lists them, until the call's
// deadline, and pauses as bo says.
//
// It is for [reprise.Invoke], [reprise.Do] and hand-written stubs; the client of
// [New] has it built in. It understands the errors of clientv3 as well as plain
// gRPC statuses. A Retryer is state of one call: return a new one from the
// function given to [reprise.WithRetry].
func OnReads(bo reprise.Backoff) reprise.Retryer {
	return newRetryer(bo, func(r *rule) verdict { return r.read }, nil)
}

// OnWrites returns a Retryer for calls that must not be applied twice: it
// retries a failure only if the request was certainly not applied and trying
// again may help. On a connection made with [DialOptions] that includes every
// request that was never sent.
//
// What it declines is returned by the call as it is; ask [OutcomeOf] whether
// the write happened.
func OnWrites(bo reprise.Backoff) reprise.Retryer {
	return newRetryer(bo, func(r *rule) verdict { return r.write }, nil)
}

// newRetryer makes the Retryer of one call. The client that the call belongs
// to, if any, may refuse a retry that its rule would allow.
func newRetryer(bo reprise.Backoff, of func(*rule) verdict, allows func(*rule) bool) reprise.Retryer {
	return newJudge(bo, func(r *rule, _ error) verdict { return of(r) }, allows)
}

// newJudge is newRetryer for a verdict that looks at the error too.
func newJudge(bo reprise.Backoff, of func(*rule, error) verdict, allows func(*rule) bool) reprise.Retryer {
	limited, cleared := 0, 0
	return reprise.OnErrorFunc(bo, func(err error) bool {
		r := classify(err)
		if a, ok := errors.AsType[*attemptError](err); ok {
			a.cleared = cleared
		}
		if r.applied == NotApplied {
			cleared++
		}
		if of(r, err) != retry {
			return false
		}
		if r.limit > 0 {
			if limited++; limited > r.limit {
				return false
			}
		}
		return allows == nil || allows(r)
	})
}
