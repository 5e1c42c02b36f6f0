package reprise

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Error reports that Reprise ended a call whose last attempt's error its
// Retryer would have retried, or that it did not make an attempt at all.
// (When the Retryer declines, the call returns the attempt's own error, not
// an Error.)
//
// [errors.Is] and [errors.As] find in it the last attempt's error, the cause
// of the context's end, [context.DeadlineExceeded] or [context.Canceled]
// according to Reason, and [ErrThrottled]. [status.FromError] finds the
// status that GRPCStatus returns.
//
//	var stopped *reprise.Error
//	if errors.As(err, &stopped) {
//		switch stopped.Reason {
//		case reprise.ReasonDeadline, reprise.ReasonElapsed: // out of time
//		case reprise.ReasonCanceled: // asked to stop
//		default: // the server kept failing: stopped.Err says how
//		}
//	}
type Error struct {
	// Reason is why the call ended.
	Reason Reason

	// Err is the error of the last attempt; nil if none was made.
	Err error

	// Cause is what [context.Cause] said when Reason is ReasonDeadline or
	// ReasonCanceled; nil otherwise, and when the call ended ahead of a
	// deadline that a pause would have reached.
	Cause error

	// Made is how many attempts were made.
	Made int

	// Attempts are the records of the attempts: of all of them if they are
	// at most 8, of the first and the last 7 otherwise.
	Attempts []Attempt
}

// Attempt is the record of one failed attempt.
type Attempt struct {
	// Number is 1 for the first attempt of the call.
	Number int

	// Start is when the attempt began, and Duration how long it took. Both
	// are zero for a first attempt whose start was not measured: reading
	// the clock would cost a call that succeeds at once more than all the
	// rest. It is measured under WithAttemptTimeout, WithMaxElapsed and
	// WithObserver.
	Start    time.Time
	Duration time.Duration

	// Pause is how long the call was to wait after the attempt: also of
	// the last attempt, whose pause was not begun.
	Pause time.Duration

	// Err is the attempt's error.
	Err error
}

// Reason is why Reprise ended a call.
type Reason uint8

const (
	// ReasonDeadline: the deadline of the context or of [WithTimeout]
	// passed, or would have before the next attempt.
	ReasonDeadline Reason = iota + 1
	// ReasonCanceled: the context was cancelled.
	ReasonCanceled
	// ReasonAttempts: the limit of [WithMaxAttempts] was reached.
	ReasonAttempts
	// ReasonElapsed: the limit of [WithMaxElapsed] was reached.
	ReasonElapsed
	// ReasonThrottled: the budget of [WithThrottle] refused an attempt.
	ReasonThrottled
	// ReasonPushback: the server asked not to be tried again; see
	// [WithPushback].
	ReasonPushback
)

var reasonTexts = [...]string{
	ReasonDeadline:  "deadline exceeded",
	ReasonCanceled:  "canceled",
	ReasonAttempts:  "attempts exhausted",
	ReasonElapsed:   "retry time exhausted",
	ReasonThrottled: "throttled by the client",
	ReasonPushback:  "pushed back by the server",
}

// String returns the reason in words.
func (r Reason) String() string {
	if int(r) < len(reasonTexts) && reasonTexts[r] != "" {
		return reasonTexts[r]
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// ErrThrottled is found by [errors.Is] in the error of a call one of whose
// attempts was refused by the client's own budget, see [WithThrottle]. It
// tells a local refusal from an answer of the server.
var ErrThrottled = errors.New("refused by the client's retry budget")

// Error says why the call ended, after how many attempts, and what the last
// of them said.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("reprise: ")
	b.WriteString(e.Reason.String())
	switch e.Made {
	case 0:
		b.WriteString(" before the first attempt")
	case 1:
		b.WriteString(" after 1 attempt")
	default:
		fmt.Fprintf(&b, " after %d attempts", e.Made)
	}
	if e.Cause != nil && !errors.Is(e.Cause, context.Canceled) && !errors.Is(e.Cause, context.DeadlineExceeded) {
		b.WriteString(": ")
		b.WriteString(e.Cause.Error())
	}
	if e.Err != nil {
		b.WriteString(": last error: ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the errors that e stands for.
func (e *Error) Unwrap() []error {
	errs := make([]error, 0, 3)
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	switch e.Reason {
	case ReasonDeadline:
		errs = append(errs, context.DeadlineExceeded)
	case ReasonCanceled:
		errs = append(errs, context.Canceled)
	case ReasonThrottled:
		errs = append(errs, ErrThrottled)
	}
	if e.Cause != nil {
		errs = append(errs, e.Cause)
	}
	return errs
}

// GRPCStatus returns the status of the call: DEADLINE_EXCEEDED or CANCELLED
// where the context ended it, otherwise the code and the details of the last
// attempt's status. The message is that of Error. A first attempt that was
// refused by a throttle gives UNAVAILABLE.
func (e *Error) GRPCStatus() *status.Status {
	switch e.Reason {
	case ReasonDeadline:
		return status.New(codes.DeadlineExceeded, e.Error())
	case ReasonCanceled:
		return status.New(codes.Canceled, e.Error())
	}
	if e.Err == nil {
		return status.New(codes.Unavailable, e.Error())
	}
	st, ok := status.FromError(e.Err)
	if !ok || st.Code() == codes.OK { // an error that claims success is not understood
		return status.New(codes.Unknown, e.Error())
	}
	p := proto.CloneOf(st.Proto())
	p.Message = e.Error()
	return status.FromProto(p)
}

// AttemptTimeoutError is the error of an attempt that ran out of its own
// time, as [WithAttemptTimeout] bounds it, while the call had time left. It
// is how a deadline of the client's making is told from a DEADLINE_EXCEEDED
// that a server sent. Its status is DEADLINE_EXCEEDED.
type AttemptTimeoutError struct {
	// Timeout is the time that the attempt had.
	Timeout time.Duration
	// Err is what the attempt returned.
	Err error
}

// Error says how long the attempt had and what it returned.
func (e *AttemptTimeoutError) Error() string {
	return fmt.Sprintf("reprise: attempt timed out after %v: %v", e.Timeout, e.Err)
}

// Unwrap returns what the attempt returned.
func (e *AttemptTimeoutError) Unwrap() error { return e.Err }

// GRPCStatus returns a DEADLINE_EXCEEDED with the message of Error.
func (e *AttemptTimeoutError) GRPCStatus() *status.Status {
	return status.New(codes.DeadlineExceeded, e.Error())
}

// ArgumentError reports an argument that a function of this package cannot
// work with, such as a nil context or call. Its status is INVALID_ARGUMENT.
type ArgumentError struct {
	// Func is the function or method that was called.
	Func string
	// Problem names the argument and says what is wrong with it.
	Problem string
}

// Error names the function and the problem.
func (e *ArgumentError) Error() string { return "reprise: " + e.Func + ": " + e.Problem }

// GRPCStatus returns an INVALID_ARGUMENT with the message of Error.
func (e *ArgumentError) GRPCStatus() *status.Status {
	return status.New(codes.InvalidArgument, e.Error())
}

// historySize is how many records an [Error] keeps.
const historySize = 8

// history keeps the record of the first attempt and a ring of the last.
type history struct {
	made    int
	records [historySize]Attempt
}

func (h *history) add(a Attempt) {
	*h.slot(h.made) = a
	h.made++
}

// last returns the record that was added last; there must be one.
func (h *history) last() *Attempt { return h.slot(h.made - 1) }

func (h *history) slot(i int) *Attempt {
	if i > 0 {
		i = 1 + (i-1)%(historySize-1)
	}
	return &h.records[i]
}

// list returns a copy of the records in order.
func (h *history) list() []Attempt {
	if h.made == 0 {
		return nil
	}
	out := append(make([]Attempt, 0, min(h.made, historySize)), h.records[0])
	for i := max(1, h.made-historySize+1); i < h.made; i++ {
		out = append(out, *h.slot(i))
	}
	return out
}
