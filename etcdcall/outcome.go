package etcdcall

import (
	"errors"
	"fmt"

	"github.com/reprise-go/reprise"
)

// Outcome says what is known about the effect of a request on the store.
type Outcome int

const (
	// Unknown is the zero value: the request may or may not have been applied,
	// and it may still be applied later.
	Unknown Outcome = iota
	// NotApplied means that the request had no effect and will have none.
	NotApplied
	// Applied means that the request took effect.
	Applied
)

// String returns "unknown", "not applied" or "applied".
func (o Outcome) String() string {
	switch o {
	case Unknown:
		return "unknown"
	case NotApplied:
		return "not applied"
	case Applied:
		return "applied"
	default:
		return fmt.Sprintf("Outcome(%d)", int(o))
	}
}

// OutcomeOf answers "did my write happen?" for the error that a call returned.
//
// A nil error is Applied. An error of this package carries its outcome with it.
// Any other error is looked up in the classification table (docs/etcd-errors.md):
// errors of package rpctypes and gRPC statuses that an etcd server answers only
// before it changes anything are NotApplied, all else is Unknown. A transport
// failure is Unknown unless the connection was made with [DialOptions], which
// make known that a request was never sent.
//
// The answer for a [*reprise.Error] is that of all its attempts: one attempt of
// unknown outcome makes the whole Unknown, and so does one that the error no
// longer lists, unless [OnWrites] let it pass.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Applied
	}
	var known interface{ Outcome() Outcome }
	stopped, isStopped := errors.AsType[*reprise.Error](err)
	switch {
	case errors.As(err, &known) && !within(stopped, known):
		return known.Outcome()
	case isStopped:
		return outcomeOfAttempts(stopped)
	default:
		return classify(err).applied
	}
}

// within reports whether known is the error of an attempt of stopped, and so
// speaks for that attempt alone.
func within(stopped *reprise.Error, known any) bool {
	_, isAttempt := known.(*attemptError)
	return stopped != nil && isAttempt
}

func outcomeOfAttempts(stopped *reprise.Error) Outcome {
	for _, a := range stopped.Attempts {
		if OutcomeOf(a.Err) != NotApplied {
			return Unknown
		}
	}
	if len(stopped.Attempts) == stopped.Made {
		return NotApplied
	}
	if last, ok := errors.AsType[*attemptError](stopped.Err); ok && last.cleared == stopped.Made-1 {
		return NotApplied
	}
	return Unknown
}

// AmbiguousError reports a write whose outcome is unknown: it was sent, and the
// answer that came (or did not come) does not tell whether it was applied. The
// write was not sent again, since that could apply it twice.
//
// The caller decides what to do: read back and compare, or repeat the write if
// doing it twice is harmless. The cause stays in the chain, so errors.Is finds
// the rpctypes error or the context error, and errors.As finds the gRPC status.
type AmbiguousError struct {
	// Method is the full gRPC method of the write, such as "/etcdserverpb.KV/Put".
	Method string
	// Err is what the last attempt ended with.
	Err error
}

// Error describes the write and the failure that left its outcome open.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("etcdcall: %s may or may not have been applied: %v", e.Method, e.Err)
}

// Unwrap returns the failure that left the outcome open.
func (e *AmbiguousError) Unwrap() error { return e.Err }

// Outcome returns Unknown.
func (e *AmbiguousError) Outcome() Outcome { return Unknown }
