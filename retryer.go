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
	//
	// A Retryer may also have a method Reset(), by which server advice
	// makes its pauses start anew (see [WithPushback]).
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

// OnUnavailable returns a Retryer that retries UNAVAILABLE alone, the one code
// that AIP-194 holds safe to retry without knowing the method: it asks that
// the method changes no state in a way that a second execution would harm.
func OnUnavailable(bo Backoff) Retryer {
	return OnCodes([]codes.Code{codes.Unavailable}, bo)
}

// AnyOf returns a Retryer that retries what any of rs retries. The pause is
// that of the first that says yes; the others are not asked, so that their
// pauses do not grow. Nil Retryers are passed over.
func AnyOf(rs ...Retryer) Retryer { return anyRetryer(slices.Clone(rs)) }

type anyRetryer []Retryer

func (rs anyRetryer) Retry(err error) (time.Duration, bool) {
	for _, r := range rs {
		if r == nil {
			continue
		}
		if pause, ok := r.Retry(err); ok {
			return pause, true
		}
	}
	return 0, false
}

// pauses returns the Backoff of the first Retryer that has one.
func (rs anyRetryer) pauses() *Backoff {
	for _, r := range rs {
		if bo := backoffOf(r); bo != nil {
			return bo
		}
	}
	return nil
}

// Reset makes the pauses of all Retryers start anew.
func (rs anyRetryer) Reset() {
	for _, r := range rs {
		resetPauses(r)
	}
}

// AtMost returns a Retryer that retries what r retries, but not after the
// n-th of those failures. In contrast to [WithMaxAttempts], the call then ends
// with the attempt's own error, and the limit can be one part of [AnyOf]: an
// error that another part retries does not count. With n of zero or less, or a
// nil r, nothing is retried.
func AtMost(n int, r Retryer) Retryer { return &limitedRetryer{left: n, inner: r} }

type limitedRetryer struct {
	inner Retryer
	left  int
}

func (r *limitedRetryer) Retry(err error) (time.Duration, bool) {
	if r.inner == nil {
		return 0, false
	}
	pause, ok := r.inner.Retry(err)
	if !ok {
		return 0, false
	}
	r.left--
	return pause, r.left > 0
}

func (r *limitedRetryer) pauses() *Backoff { return backoffOf(r.inner) }

// Reset makes the pauses start anew; the count of failures stays.
func (r *limitedRetryer) Reset() { resetPauses(r.inner) }

// resetPauses makes the pauses of r start anew, if r knows how to.
func resetPauses(r Retryer) {
	switch r := r.(type) {
	case interface{ Reset() }:
		r.Reset()
	case pausing:
		r.pauses().Reset()
	}
}

// pausing is a Retryer whose pauses come from a Backoff. Wrappers draw from
// the same one, so that a call has one envelope however its policy is
// composed.
type pausing interface {
	Retryer
	pauses() *Backoff // nil if there is none inside
}

// backoffOf returns the Backoff of r, nil if r has none.
func backoffOf(r Retryer) *Backoff {
	if p, ok := r.(pausing); ok {
		return p.pauses()
	}
	return nil
}

// OnAttemptTimeout returns a Retryer that retries what r retries and, beyond
// that, every attempt that ran out of its own time (see
// [WithAttemptTimeout]). The pauses after those come from the Backoff of r
// if r was made by this package, the first one if it joins several, and from
// a default one otherwise. If r is nil, nothing else is retried.
func OnAttemptTimeout(r Retryer) Retryer {
	bo := backoffOf(r)
	if bo == nil {
		bo = new(Backoff)
	}
	return &attemptTimeoutRetryer{inner: r, backoff: bo}
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

// Reset makes the pauses start anew, also those of a Retryer inside that has a
// Backoff of its own.
func (r *attemptTimeoutRetryer) Reset() {
	r.backoff.Reset()
	resetPauses(r.inner)
}

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
