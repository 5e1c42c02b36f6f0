package reprise

import (
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Retryer decides whether a call is tried again. A Retryer is state of one
// call: it is made by the function given to [WithRetry] at the call's first
// failure and used from one goroutine.
type Retryer interface {
	// Retry reports whether the call should be tried again after an
	// attempt that failed with err, and how long to pause before. It sees
	// the error of the attempt as it is, never nil. A negative pause
	// counts as none.
	Retry(err error) (pause time.Duration, shouldRetry bool)
}

// RetryerFunc is a function as a [Retryer].
type RetryerFunc func(err error) (pause time.Duration, shouldRetry bool)

// Retry returns f(err). A nil RetryerFunc retries nothing.
func (f RetryerFunc) Retry(err error) (pause time.Duration, shouldRetry bool) {
	if f == nil {
		return 0, false
	}
	return f(err)
}

// OnCodes returns a Retryer that retries errors that carry a gRPC status
// with one of the codes in cc, and pauses as bo says. The status may be
// wrapped; where several are, the outermost counts. Errors without a status
// are not retried, context errors among them.
//
// The Retryer has a copy of bo and of cc.
func OnCodes(cc []codes.Code, bo Backoff) Retryer {
	r := &codeRetryer{backoff: bo}
	for _, c := range cc {
		if c < maskBits {
			r.mask |= 1 << c
		} else {
			r.rest = append(r.rest, c)
		}
	}
	return r
}

// maskBits is how many codes fit the mask of a codeRetryer. gRPC has 17.
const maskBits = 32

type codeRetryer struct {
	backoff Backoff
	mask    uint32
	rest    []codes.Code
}

func (r *codeRetryer) Retry(err error) (time.Duration, bool) {
	c, ok := codeOf(err)
	if !ok || !r.has(c) {
		return 0, false
	}
	return r.backoff.Pause(), true
}

func (r *codeRetryer) has(c codes.Code) bool {
	if c < maskBits {
		return r.mask&(1<<c) != 0
	}
	return slices.Contains(r.rest, c)
}

func (r *codeRetryer) pauses() *Backoff { return &r.backoff }

// OnErrorFunc returns a Retryer that retries the errors for which
// shouldRetry returns true, and pauses as bo says. If shouldRetry is nil,
// nothing is retried. The Retryer has a copy of bo.
func OnErrorFunc(bo Backoff, shouldRetry func(err error) bool) Retryer {
	return &funcRetryer{backoff: bo, shouldRetry: shouldRetry}
}

type funcRetryer struct {
	backoff     Backoff
	shouldRetry func(err error) bool
}

func (r *funcRetryer) Retry(err error) (time.Duration, bool) {
	if r.shouldRetry == nil || !r.shouldRetry(err) {
		return 0, false
	}
	return r.backoff.Pause(), true
}

func (r *funcRetryer) pauses() *Backoff { return &r.backoff }

// pausing is a Retryer whose pauses come from a Backoff. Wrappers draw from
// the same one, so that a call has one envelope however its policy is
// composed.
type pausing interface {
	Retryer
	pauses() *Backoff
}

// backoffOf returns the Backoff of r, or a default one if r has none.
func backoffOf(r Retryer) *Backoff {
	if p, ok := r.(pausing); ok {
		return p.pauses()
	}
	return new(Backoff)
}

// OnAttemptTimeout returns a Retryer that retries what r retries and, beyond
// that, every attempt that ran out of its own time (see
// [WithAttemptTimeout]). The pauses after those come from the Backoff of r
// if r was made by this package, and from a default one otherwise. If r is
// nil, nothing else is retried.
func OnAttemptTimeout(r Retryer) Retryer {
	return &attemptTimeoutRetryer{inner: r, backoff: backoffOf(r)}
}

type attemptTimeoutRetryer struct {
	inner   Retryer
	backoff *Backoff
}

func (r *attemptTimeoutRetryer) Retry(err error) (time.Duration, bool) {
	if r.inner != nil {
		if pause, ok := r.inner.Retry(err); ok {
			return pause, true
		}
	}
	if _, ok := errors.AsType[*AttemptTimeoutError](err); ok {
		return r.backoff.Pause(), true
	}
	return 0, false
}

func (r *attemptTimeoutRetryer) pauses() *Backoff { return r.backoff }

// statusCarrier is what errors with a gRPC status implement.
type statusCarrier interface {
	error
	GRPCStatus() *status.Status
}

// codeOf returns the code of the outermost gRPC status that err carries. In
// contrast to [status.FromError] it formats no message.
func codeOf(err error) (codes.Code, bool) {
	sc, ok := err.(statusCarrier) //nolint:errorlint // the common case, without the walk
	if !ok {
		if sc, ok = errors.AsType[statusCarrier](err); !ok {
			return codes.Unknown, false
		}
	}
	st := sc.GRPCStatus()
	if st == nil {
		return codes.Unknown, false
	}
	return st.Code(), true
}
