package reprise

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
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
// After each failure the questions are asked in the order of grpc-go: does
// the Retryer retry the error, does the throttle admit another attempt, are
// attempts left, how long to pause. On retries, the context of the attempt
// carries its number, see [AttemptFromContext], also as the outgoing gRPC
// metadata grpc-previous-rpc-attempts.
//
// A nil ctx or call gives an [*ArgumentError]. A success that needs neither a
// timeout nor [WithPushback] costs neither an allocation nor a lock.
func Invoke(ctx context.Context, call APICall, opts ...CallOption) error {
	if call == nil {
		return &ArgumentError{Func: "Invoke", Problem: "the call is nil"}
	}
	if ctx == nil {
		return &ArgumentError{Func: "Invoke", Problem: "the context is nil"}
	}
	var cs CallSettings
	cs.apply(opts)
	if cs.hedged() {
		return errHedgeUnbound("Invoke")
	}
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
	if !cs.bare() {
		return do(ctx, call, cs)
	}
	if ctx.Err() != nil || cs.Throttle != nil {
		if refused := admitFirst(ctx, &cs); refused != nil {
			return result, refused
		}
	}
	began := cs.began()
	result, err := call(firstContext(ctx))
	if err == nil {
		succeeded(cs.Throttle)
		return result, nil
	}
	return doAgain(ctx, call, cs, result, outcome{err: err, start: began.time()})
}

// do is Do for settings that are not bare. It is apart because here the result moves
// to the heap.
func do[T any](ctx context.Context, call func(context.Context) (T, error), cs CallSettings) (result T, err error) {
	if cs.hedged() {
		return result, errHedgeUnbound("Do")
	}
	err = invokeRare(ctx, cs, func(ctx context.Context, _ CallSettings) (err error) {
		result, err = call(ctx)
		return err
	})
	return result, err
}

// doAgain goes on after the first attempt of a bare call has failed.
func doAgain[T any](ctx context.Context, call func(context.Context) (T, error), cs CallSettings, result T, first outcome) (T, error) {
	cs.Attempt = 1
	err := retry(ctx, cs, func(ctx context.Context, _ CallSettings) (err error) {
		result, err = call(ctx)
		return err
	}, first)
	return result, err
}

// invoke makes the first attempt and leaves what follows a failure to retry.
func invoke(ctx context.Context, cs CallSettings, call APICall) error {
	if !cs.bare() {
		return invokeRare(ctx, cs, call)
	}
	if refused := admitFirst(ctx, &cs); refused != nil {
		return refused
	}
	cs.Attempt = 1
	began := cs.began()
	err := call(firstContext(ctx), cs)
	if err == nil {
		succeeded(cs.Throttle)
		return nil
	}
	return retry(ctx, cs, call, outcome{err: err, start: began.time()})
}

// bare reports whether a call under cs needs no timer, and nobody to be told of
// it, unless it fails.
func (cs *CallSettings) bare() bool { return cs.Timeout == 0 && (cs.rare == nil || cs.rare.idle()) }

// instant is a reading of the monotonic clock alone, which costs half of what
// [time.Now] does. It is 0 if it was not taken.
type instant time.Duration

// birth is what instants are counted from.
var birth = time.Now()

// began returns when a bare call begins, if its limits are counted from then.
func (cs *CallSettings) began() (now instant) {
	if cs.rare != nil && cs.rare.maxElapsed > 0 {
		now = instant(time.Since(birth))
	}
	return now
}

// time returns the instant as a time, by the wall clock of now.
func (i instant) time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	now := time.Now()
	return now.Add(time.Duration(i) - now.Sub(birth))
}

// invokeRare is invoke for settings that are not bare.
func invokeRare(ctx context.Context, cs CallSettings, call APICall) error {
	ctx = cs.observedCall(ctx)
	if cs.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cs.Timeout)
		defer cancel()
	}
	if refused := admitFirst(ctx, &cs); refused != nil {
		return refused
	}
	cs.Attempt = 1
	if cs.rare == nil { // a timeout alone: attempt would cost half of what we may add to it
		err := call(firstContext(ctx), cs)
		if err == nil {
			succeeded(cs.Throttle)
			return nil
		}
		return retry(ctx, cs, call, outcome{err: err})
	}
	first := attempt(firstContext(ctx), cs, call)
	if first.err == nil {
		cs.observeEnd(ctx, nil, &first)
		succeeded(cs.Throttle)
		return nil
	}
	return retry(ctx, cs, call, first)
}

// outcome is how an attempt ended.
type outcome struct {
	err     error
	start   time.Time   // zero if it was not measured
	trailer metadata.MD // nil if nobody asks for it
}

// attempt makes one attempt, within its own time and under the eyes of the
// observer if the settings say so.
func attempt(ctx context.Context, cs CallSettings, call APICall) (o outcome) {
	r := cs.rare
	if r == nil {
		o.err = call(ctx, cs)
		return o
	}
	if r.timed() {
		o.start = time.Now()
	}
	own := cs.observedAttempt(ctx)
	if r.attemptTimeout > 0 {
		var cancel context.CancelFunc
		own, cancel = context.WithTimeout(own, r.attemptTimeout)
		defer cancel()
	}
	if r.pushback {
		o.err, o.trailer = callForTrailer(own, cs, call)
	} else {
		o.err = call(own, cs)
	}
	if r.attemptTimeout > 0 && o.err != nil && spent(own) && !spent(ctx) && !isAnswer(o.err) {
		o.err = &AttemptTimeoutError{Timeout: r.attemptTimeout, Err: o.err}
	}
	cs.observeAttempt(own, &o)
	return o
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
func retry(ctx context.Context, cs CallSettings, call APICall, last outcome) error {
	var retryer Retryer
	if cs.Retry != nil {
		retryer = cs.Retry()
	}
	if retryer == nil {
		return notRetried(ctx, &cs, &last)
	}
	l := loop{began: last.start}
	for {
		pause, ok := retryer.Retry(last.err)
		if !ok && l.made == 0 && cs.rare == nil && (!spent(ctx) || !isContextual(last.err)) {
			declined(cs.Throttle, last.err)
			return last.err
		}
		l.now = time.Now()
		l.record(cs.Attempt, &last, l.now, max(pause, 0))
		if err := l.decide(ctx, &cs, retryer, ok, last.trailer); err != nil {
			l.observeEnd(ctx, &cs, err)
			return err
		}
		if err := l.rest(ctx, &cs); err != nil {
			l.observeEnd(ctx, &cs, err)
			return err
		}
		cs.Attempt++
		start := time.Now()
		last = attempt(&attemptContext{Context: ctx, number: cs.Attempt}, cs, call)
		last.start = start
		if last.err == nil {
			l.observeEnd(ctx, &cs, nil)
			succeeded(cs.Throttle)
			return nil
		}
	}
}

// loop is the memory of a call that is being retried.
type loop struct {
	history

	began  time.Time // of the call; zero if it was not measured
	now    time.Time // when the last attempt ended
	source PauseSource
	paused time.Duration // all pauses so far
}

// decide returns nil if the call goes on after the attempt recorded last, and
// the error of the call otherwise. The Retryer has said already whether it
// would retry. The questions come in the order of grpc-go, which A6 leaves
// open: a server that wants no retry, code, throttle, attempts, delay.
func (l *loop) decide(ctx context.Context, cs *CallSettings, r Retryer, retryable bool, trailer metadata.MD) error {
	last := l.last()
	advice := cs.advice(last.Err, trailer)
	cs.countFailure(ctx, last.Err, retryable || advice.stop)
	switch {
	case spent(ctx) && (retryable || isContextual(last.Err)):
		return l.ended(ctx)
	case !retryable:
		return last.Err
	case advice.stop:
		return l.stopped(ReasonPushback)
	}
	last.Pause, l.source = advice.apply(last.Pause, r)
	limit := l.limit(ctx, cs)
	admitted := cs.Throttle == nil || cs.Throttle.Admit(cs.Attempt+1)
	if limit != 0 {
		unsent(cs.Throttle, l.now)
	}
	switch {
	case !admitted:
		return l.refused(ctx, cs.Throttle)
	case limit != 0:
		return l.stopped(limit)
	}
	return nil
}

// limit returns the limit that forbids another attempt after the pause of the
// last, 0 if none does.
func (l *loop) limit(ctx context.Context, cs *CallSettings) Reason {
	if cs.MaxAttempts > 0 && cs.Attempt >= cs.MaxAttempts {
		return ReasonAttempts
	}
	pause := l.last().Pause
	if cs.rare != nil && cs.rare.maxElapsed > 0 && pause >= cs.rare.maxElapsed-l.now.Sub(l.began) {
		return ReasonElapsed
	}
	if deadline, ok := ctx.Deadline(); ok && pause >= deadline.Sub(l.now) {
		return ReasonDeadline
	}
	return 0
}

// rest sleeps the pause that was decided on.
func (l *loop) rest(ctx context.Context, cs *CallSettings) error {
	pause := l.last().Pause
	l.paused += pause
	l.observePause(ctx, cs)
	if Sleep(ctx, pause) != nil {
		unsent(cs.Throttle, l.now)
		return l.ended(ctx)
	}
	return nil
}

// spent reports whether ctx has ended. Its deadline counts by the clock, as it does
// for gRPC, which can fail an attempt for it just before the context's timer fires.
func spent(ctx context.Context) bool {
	if ctx.Err() != nil {
		return true
	}
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
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

// notRetried is the end of a call that has no Retryer to classify its error.
func notRetried(ctx context.Context, cs *CallSettings, last *outcome) error {
	cs.observeEnd(ctx, last.err, last)
	if cs.Throttle != nil {
		c, ok := codeOf(last.err)
		unavailable := ok && c == codes.Unavailable
		cs.countFailure(ctx, last.err, unavailable || cs.advice(last.err, last.trailer).stop)
	}
	return last.err
}

func (h *history) record(number int, o *outcome, now time.Time, pause time.Duration) {
	a := Attempt{Number: number, Start: o.start, Pause: pause, Err: o.err}
	if !o.start.IsZero() {
		a.Duration = now.Sub(o.start)
	}
	h.add(a)
}

// ended is the error of a call whose context is spent.
func (h *history) ended(ctx context.Context) *Error {
	reason := ReasonCanceled
	if err := ctx.Err(); err == nil || errors.Is(err, context.DeadlineExceeded) {
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
