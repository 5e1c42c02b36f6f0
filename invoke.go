package reprise

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
)

// APICall is one attempt of a call. It should pass ctx on, and forward
// settings.GRPC to the gRPC stub if it calls one.
type APICall func(ctx context.Context, settings CallSettings) error

// Invoke calls call until it succeeds, the Retryer declines, or a limit of
// the options is reached. Without options it makes one attempt.
//
// It returns nil after a success. When there is no Retryer or the Retryer
// declines, it returns the error of the attempt as it is. When it ends the
// call itself, it returns an [*Error] that says why and holds the last
// attempt's error; it does so without sleeping if the next pause would last
// until the deadline or beyond. No attempt is made on a context that is done.
//
// After each failure the questions are asked in the order of gRPC A6: does
// the Retryer retry the error, does the throttle admit another attempt, are
// attempts left, how long to pause. On retries, the context of the attempt
// carries its number, see [AttemptFromContext], also as the outgoing gRPC
// metadata grpc-previous-rpc-attempts.
//
// A nil ctx or call gives an [*ArgumentError]. A success that needs no timeout
// costs neither an allocation nor a lock.
func Invoke(ctx context.Context, call APICall, opts ...CallOption) error {
	if call == nil {
		return &ArgumentError{Func: "Invoke", Problem: "the call is nil"}
	}
	if ctx == nil {
		return &ArgumentError{Func: "Invoke", Problem: "the context is nil"}
	}
	var cs CallSettings
	cs.apply(opts)
	return invoke(ctx, cs, call)
}

// Do is [Invoke] for a call that returns a value. It returns what the last
// attempt returned, or the zero value of T if none was made. The call finds
// its attempt's number by [AttemptFromContext].
func Do[T any](ctx context.Context, call func(context.Context) (T, error), opts ...CallOption) (T, error) {
	var result T
	if call == nil {
		return result, &ArgumentError{Func: "Do", Problem: "the call is nil"}
	}
	if ctx == nil {
		return result, &ArgumentError{Func: "Do", Problem: "the context is nil"}
	}
	var cs CallSettings
	cs.apply(opts)
	err := invoke(ctx, cs, func(ctx context.Context, _ CallSettings) (err error) {
		result, err = call(ctx)
		return err
	})
	return result, err
}

// invoke makes the first attempt and leaves what follows a failure to retry.
func invoke(ctx context.Context, cs CallSettings, call APICall) error {
	if !cs.bare() {
		return invokeBounded(ctx, cs, call)
	}
	if refused := admitFirst(ctx, cs.Throttle); refused != nil {
		return refused
	}
	cs.Attempt = 1
	err := call(ctx, cs)
	if err == nil {
		succeeded(cs.Throttle)
		return nil
	}
	return retry(ctx, cs, call, firstFailure{err: err})
}

// bare reports whether a call under cs needs neither clock nor timer unless
// it fails.
func (cs *CallSettings) bare() bool { return cs.Timeout == 0 && cs.rare == nil }

// invokeBounded is invoke for settings that are not bare.
func invokeBounded(ctx context.Context, cs CallSettings, call APICall) error {
	if refused := admitFirst(ctx, cs.Throttle); refused != nil {
		return refused
	}
	var first firstFailure
	if cs.rare != nil {
		first.start = time.Now()
	}
	if cs.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cs.Timeout)
		defer cancel()
	}
	cs.Attempt = 1
	if first.err = attempt(ctx, cs, call); first.err == nil {
		succeeded(cs.Throttle)
		return nil
	}
	return retry(ctx, cs, call, first)
}

// firstFailure is how the first attempt of a call ended, and when it began if
// that was measured.
type firstFailure struct {
	start time.Time
	err   error
}

// attempt makes one attempt within its own time.
func attempt(ctx context.Context, cs CallSettings, call APICall) error {
	if cs.rare == nil || cs.rare.attemptTimeout == 0 {
		return call(ctx, cs)
	}
	own, cancel := context.WithTimeout(ctx, cs.rare.attemptTimeout)
	defer cancel()
	err := call(own, cs)
	if err == nil || own.Err() == nil || ctx.Err() != nil || isAnswer(err) {
		return err
	}
	return &AttemptTimeoutError{Timeout: cs.rare.attemptTimeout, Err: err}
}

// isAnswer reports whether err is a status that no lack of time explains, so
// that it must have come from a server, in time or barely late.
func isAnswer(err error) bool {
	c, ok := codeOf(err)
	if !ok {
		return false
	}
	switch c {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.Unknown:
		return false
	}
	return true
}

// retry is the retry loop, the only one of the module. It begins when the
// first attempt has failed.
func retry(ctx context.Context, cs CallSettings, call APICall, first firstFailure) error {
	if cs.Retry == nil {
		return notRetried(cs.Throttle, first.err)
	}
	retryer := cs.Retry()
	if retryer == nil {
		return notRetried(cs.Throttle, first.err)
	}
	var h history
	for start, err := first.start, first.err; ; {
		pause, ok := retryer.Retry(err)
		if !ok && h.made == 0 && ctx.Err() == nil {
			declined(cs.Throttle)
			return err
		}
		now := time.Now()
		h.record(cs.Attempt, start, now, max(pause, 0), err)
		if stop := decide(ctx, &cs, &h, ok, now, first.start); stop != nil {
			return stop
		}
		if Sleep(ctx, h.last().Pause) != nil {
			return h.ended(ctx)
		}
		cs.Attempt++
		start = time.Now()
		err = attempt(&attemptContext{Context: ctx, number: cs.Attempt}, cs, call)
		if err == nil {
			succeeded(cs.Throttle)
			return nil
		}
	}
}

// decide returns nil if the call goes on after the attempt recorded last, and
// the error of the call otherwise. The Retryer has said already whether it
// would retry. The questions come in the order of grpc-go, which A6 leaves
// open: code, throttle, attempts, delay.
func decide(ctx context.Context, cs *CallSettings, h *history, retryable bool, now, began time.Time) error {
	last := h.last()
	if ctx.Err() != nil && (retryable || isContextual(last.Err)) {
		return h.ended(ctx)
	}
	if !retryable {
		declined(cs.Throttle)
		return last.Err
	}
	if cs.Throttle != nil {
		cs.Throttle.Done(true)
		if !cs.Throttle.Admit(cs.Attempt + 1) {
			return h.stopped(ReasonThrottled)
		}
	}
	if cs.MaxAttempts > 0 && cs.Attempt >= cs.MaxAttempts {
		return h.stopped(ReasonAttempts)
	}
	if cs.rare != nil && cs.rare.maxElapsed > 0 && last.Pause >= cs.rare.maxElapsed-now.Sub(began) {
		return h.stopped(ReasonElapsed)
	}
	if deadline, ok := ctx.Deadline(); ok && last.Pause >= deadline.Sub(now) {
		return h.stopped(ReasonDeadline)
	}
	return nil
}

// isContextual reports whether err can be the mark that the end of a context
// left on an attempt.
func isContextual(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	c, ok := codeOf(err)
	return ok && (c == codes.Canceled || c == codes.DeadlineExceeded)
}

// admitFirst returns nil if the first attempt of a call may be made.
func admitFirst(ctx context.Context, t Throttler) error {
	if ctx.Err() != nil {
		return new(history).ended(ctx)
	}
	if t != nil && !t.Admit(1) {
		return new(history).stopped(ReasonThrottled)
	}
	return nil
}

func succeeded(t Throttler) {
	if t != nil {
		t.Done(false)
	}
}

func declined(t Throttler) {
	if d, ok := t.(interface{ Declined() }); ok {
		d.Declined()
	}
}

// notRetried counts the failure of a call that has no Retryer to classify it.
func notRetried(t Throttler, err error) error {
	if t == nil {
		return err
	}
	if c, ok := codeOf(err); ok && c == codes.Unavailable {
		t.Done(true)
	} else {
		declined(t)
	}
	return err
}

func (h *history) record(number int, start, now time.Time, pause time.Duration, err error) {
	a := Attempt{Number: number, Start: start, Pause: pause, Err: err}
	if !start.IsZero() {
		a.Duration = now.Sub(start)
	}
	h.add(a)
}

// ended is the error of a call whose context is done.
func (h *history) ended(ctx context.Context) error {
	reason := ReasonCanceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		reason = ReasonDeadline
	}
	e := h.stopped(reason)
	e.Cause = context.Cause(ctx)
	return e
}

func (h *history) stopped(reason Reason) *Error {
	e := &Error{Reason: reason, Made: h.made, Attempts: h.list()}
	if h.made > 0 {
		e.Err = h.last().Err
	}
	return e
}
