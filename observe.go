package reprise

import (
	"context"
	"log/slog"
	"time"
)

// Observer hears what happens in a call: each attempt, each pause, and the
// end. It is called from the goroutine of the call, and from those of hedged
// attempts, so it must be safe for concurrent use and should be quick. Of an
// attempt that panics, and of its call, it hears no end.
type Observer interface {
	Observe(ctx context.Context, e Event)
}

// ContextObserver is an [Observer] that puts something into the contexts of a
// call, as a tracer does with its spans. Of the Event that its methods are
// given, Method and Target are set, and for an attempt Attempt and Hedge. The
// contexts that they return must descend from ctx. Observe is given the
// attempt's context with an EventAttempt, and the call's with other events.
type ContextObserver interface {
	Observer

	// CallContext is called once, before the first attempt.
	CallContext(ctx context.Context, e Event) context.Context
	// AttemptContext is called before each attempt.
	AttemptContext(ctx context.Context, e Event) context.Context
}

// ObserverFunc is a function as an [Observer].
type ObserverFunc func(ctx context.Context, e Event)

// Observe calls f, unless f is nil.
func (f ObserverFunc) Observe(ctx context.Context, e Event) {
	if f != nil {
		f(ctx, e)
	}
}

// Event is something that happened in a call.
type Event struct {
	// Kind is what happened. It says which of the other fields count.
	Kind EventKind

	// Method and Target are those of [WithMethod], or what an interceptor
	// was given. They are empty if nobody named them.
	Method, Target string

	// Attempt is the number of the attempt, 1 for the first. In an
	// EventPause it is that of the attempt that failed before the pause,
	// and in an EventEnd it is how many attempts were started.
	Attempt int

	// Hedge is true for a hedged attempt beside the first, and for the end
	// of a call that made such attempts.
	Hedge bool

	// Start is when the attempt or the call began. It is zero in an
	// EventEnd of a call that made no attempt.
	Start time.Time

	// Duration is how long the attempt or the call took.
	Duration time.Duration

	// Err is the error of the attempt or of the call; nil for a success.
	Err error

	// Pause is, in an EventPause, how long the call will wait; in an
	// EventEnd, the sum of its pauses.
	Pause time.Duration

	// Source is, in an EventPause, what the pause was taken from.
	Source PauseSource

	// Reason is, in an EventEnd, why Reprise ended the call; 0 if the call
	// succeeded or the Retryer declined.
	Reason Reason
}

// EventKind is the kind of an [Event].
type EventKind uint8

const (
	// EventAttempt: an attempt ended.
	EventAttempt EventKind = iota + 1
	// EventPause: the call will be tried again, after a pause.
	EventPause
	// EventEnd: the call ended.
	EventEnd
)

// PauseSource is what a pause was taken from.
type PauseSource uint8

const (
	// PauseBackoff: the Retryer chose it.
	PauseBackoff PauseSource = iota
	// PauseTrailer: the server named it, by grpc-retry-pushback-ms.
	PauseTrailer
	// PauseRetryInfo: the server asked for at least so much, by
	// google.rpc.RetryInfo.
	PauseRetryInfo
)

var pauseSourceTexts = [...]string{"backoff", "pushback trailer", "RetryInfo"}

// String returns the source in words.
func (s PauseSource) String() string {
	if int(s) < len(pauseSourceTexts) {
		return pauseSourceTexts[s]
	}
	return "unknown"
}

// WithObserver makes o hear of the call. Several observers add up, in order;
// WithObserver(nil) removes those set before. An observed call reads the
// clock twice for each attempt.
func WithObserver(o Observer) CallOption {
	return rareOption(func(r *rareSettings) {
		switch {
		case o == nil || r.observer == nil:
			r.observer = o
		default:
			r.observer = observers{r.observer, o}
		}
	})
}

// WithMethod names the call to its observers: method is the full gRPC name,
// "/package.Service/Method", and target the target of the connection. It has
// no other effect.
func WithMethod(method, target string) CallOption {
	return rareOption(func(r *rareSettings) { r.method, r.target = method, target })
}

// observers are two observers, of which the first may be two again.
type observers struct{ first, second Observer }

func (o observers) Observe(ctx context.Context, e Event) {
	o.first.Observe(ctx, e)
	o.second.Observe(ctx, e)
}

func (o observers) CallContext(ctx context.Context, e Event) context.Context {
	for _, one := range []Observer{o.first, o.second} {
		if c, ok := one.(ContextObserver); ok {
			ctx = c.CallContext(ctx, e) //nolint:fatcontext // of two observers
		}
	}
	return ctx
}

func (o observers) AttemptContext(ctx context.Context, e Event) context.Context {
	for _, one := range []Observer{o.first, o.second} {
		if c, ok := one.(ContextObserver); ok {
			ctx = c.AttemptContext(ctx, e) //nolint:fatcontext // of two observers
		}
	}
	return ctx
}

// SlogObserver returns an Observer that logs to log: each failed attempt that
// is tried again at level Debug with its pause, and each call that ended in
// an error, or that needed more than one attempt, at level Info.
func SlogObserver(log *slog.Logger) Observer {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &slogObserver{log}
}

type slogObserver struct{ log *slog.Logger }

func (o *slogObserver) Observe(ctx context.Context, e Event) {
	switch {
	case e.Kind == EventAttempt && e.Err != nil:
		o.log.LogAttrs(ctx, slog.LevelDebug, "attempt failed", append(e.name(),
			slog.Int("attempt", e.Attempt), slog.Duration("duration", e.Duration), slog.Any("error", e.Err))...)
	case e.Kind == EventPause:
		o.log.LogAttrs(ctx, slog.LevelDebug, "trying again", append(e.name(),
			slog.Int("attempt", e.Attempt), slog.Duration("pause", e.Pause), slog.String("source", e.Source.String()))...)
	case e.Kind == EventEnd && e.Err != nil:
		o.log.LogAttrs(ctx, slog.LevelInfo, "call failed", append(e.name(),
			slog.Int("attempts", e.Attempt), slog.Duration("duration", e.Duration), slog.Any("error", e.Err))...)
	case e.Kind == EventEnd && e.Attempt > 1:
		o.log.LogAttrs(ctx, slog.LevelInfo, "call succeeded after retries", append(e.name(),
			slog.Int("attempts", e.Attempt), slog.Duration("duration", e.Duration))...)
	}
}

func (e *Event) name() []slog.Attr {
	if e.Method == "" {
		return nil
	}
	return []slog.Attr{slog.String("method", e.Method)}
}

// observed reports whether anybody hears of the call.
func (cs *CallSettings) observed() bool { return cs.rare != nil && cs.rare.observer != nil }

// observe completes e and passes it on.
func (cs *CallSettings) observe(ctx context.Context, e Event) {
	e.Method, e.Target = cs.rare.method, cs.rare.target
	cs.rare.observer.Observe(ctx, e)
}

// observedCall returns the context under which the observer wants the call to
// be made.
func (cs *CallSettings) observedCall(ctx context.Context) context.Context {
	if !cs.observed() {
		return ctx
	}
	c, ok := cs.rare.observer.(ContextObserver)
	if !ok {
		return ctx
	}
	return c.CallContext(ctx, Event{Method: cs.rare.method, Target: cs.rare.target})
}

// observedAttempt returns the context under which the observer wants the
// attempt to be made.
func (cs *CallSettings) observedAttempt(ctx context.Context) context.Context {
	if !cs.observed() {
		return ctx
	}
	c, ok := cs.rare.observer.(ContextObserver)
	if !ok {
		return ctx
	}
	return c.AttemptContext(ctx, Event{
		Method: cs.rare.method, Target: cs.rare.target,
		Attempt: cs.Attempt, Hedge: cs.hedged() && cs.Attempt > 1,
	})
}

func (cs *CallSettings) observeAttempt(ctx context.Context, o *outcome) {
	if !cs.observed() {
		return
	}
	cs.observe(ctx, Event{
		Kind: EventAttempt, Attempt: cs.Attempt, Hedge: cs.hedged() && cs.Attempt > 1,
		Start: o.start, Duration: time.Since(o.start), Err: o.err,
	})
}

// observeEnd tells of the end of a call that was not retried. made is 0 or 1.
func (cs *CallSettings) observeEnd(ctx context.Context, err error, only *outcome) {
	if !cs.observed() {
		return
	}
	e := Event{Kind: EventEnd, Err: err, Reason: reasonOf(err)}
	if !only.start.IsZero() {
		e.Attempt, e.Start, e.Duration = 1, only.start, time.Since(only.start)
	}
	cs.observe(ctx, e)
}

func (l *loop) observePause(ctx context.Context, cs *CallSettings) {
	if cs.observed() {
		cs.observe(ctx, Event{Kind: EventPause, Attempt: cs.Attempt, Pause: l.last().Pause, Source: l.source})
	}
}

func (l *loop) observeEnd(ctx context.Context, cs *CallSettings, err error) {
	if cs.observed() {
		cs.observe(ctx, Event{
			Kind: EventEnd, Attempt: cs.Attempt, Hedge: cs.hedged() && cs.Attempt > 1,
			Start: l.began, Duration: time.Since(l.began), Err: err, Pause: l.paused, Reason: reasonOf(err),
		})
	}
}

// reasonOf returns why Reprise ended the call that returned err itself.
func reasonOf(err error) Reason {
	if e, ok := err.(*Error); ok { //nolint:errorlint // a wrapped one is another call's
		return e.Reason
	}
	return 0
}
