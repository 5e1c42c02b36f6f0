package reprise

import (
	"slices"
	"time"

	"google.golang.org/grpc"
)

// CallSettings say how one call is made. They are built from options, and
// each attempt of the call receives a copy of them.
//
// The zero value makes one attempt, bounded by nothing but its context.
type CallSettings struct {
	// Retry returns the Retryer of one call. It runs at the call's first
	// failure, so a call that succeeds at once never makes a Retryer. If
	// Retry is nil or returns nil, the call is not retried.
	Retry func() Retryer

	// GRPC are the options to forward to the stub. A stub may append to
	// the slice: its capacity is its length, so an append copies it.
	GRPC []grpc.CallOption

	// Attempt is the number of the attempt that receives these settings:
	// 1 for the first, 2 for the first retry. It is 0 outside an attempt.
	Attempt int

	// Timeout bounds the whole call, pauses included; see [WithTimeout].
	// Zero and negative values set no bound.
	Timeout time.Duration

	// MaxAttempts is how many attempts the call may make, the first
	// included; see [WithMaxAttempts]. Zero and negative values set no
	// limit.
	MaxAttempts int

	// Throttle is the retry budget that the call shares with others; see
	// [WithThrottle]. It may be nil.
	Throttle Throttler

	rare *rareSettings
}

// rareSettings are those that most calls leave alone. They stand behind one
// pointer so that CallSettings stay cheap to copy. They are never changed in
// place: bound calls share them.
type rareSettings struct {
	attemptTimeout time.Duration
	maxElapsed     time.Duration
	pushback       bool
	unary          bool // the call is a unary stub's, done with its options on return
	hedge          *hedgePolicy
	observer       Observer
	method, target string
}

// timed reports whether the start of each attempt is to be measured.
func (r *rareSettings) timed() bool {
	return r.attemptTimeout > 0 || r.maxElapsed > 0 || r.observer != nil
}

// idle reports whether a call that succeeds at once is made as without r, but
// for a look at the clock: a name alone changes nothing while nobody observes
// the call.
func (r *rareSettings) idle() bool {
	return r.attemptTimeout == 0 && r.observer == nil && !r.pushback && r.hedge == nil
}

// Resolve applies an option to the rare settings.
func (o rareOption) Resolve(cs *CallSettings) { cs.amend(o) }

// amend replaces the rare settings by a copy that change has edited.
func (cs *CallSettings) amend(change func(r *rareSettings)) {
	r := new(rareSettings)
	if cs.rare != nil {
		*r = *cs.rare
	}
	change(r)
	cs.rare = r
}

// CallOption changes the settings of a call.
//
// The functions whose names begin with With return the options of this
// package. Types of other packages may implement CallOption too; an option
// of such a type costs one allocation for each call that it is passed to.
// Options are applied in order: where two set the same thing, the later one
// holds. A nil option is ignored.
type CallOption interface {
	// Resolve applies the option by modifying cs.
	Resolve(cs *CallSettings)
}

type (
	retryOption       func() Retryer
	grpcOption        []grpc.CallOption
	timeoutOption     time.Duration
	maxAttemptsOption int
	throttleOption    struct{ Throttler }
	rareOption        func(r *rareSettings)
	optionList        []CallOption
)

// apply resolves opts in order. The types of this package are told apart
// here, not by a call through the interface, which would move the caller's
// settings to the heap.
func (cs *CallSettings) apply(opts []CallOption) {
	for _, opt := range opts {
		switch o := opt.(type) {
		case nil:
		case retryOption:
			o.Resolve(cs)
		case grpcOption:
			o.Resolve(cs)
		case timeoutOption:
			o.Resolve(cs)
		case maxAttemptsOption:
			o.Resolve(cs)
		case throttleOption:
			o.Resolve(cs)
		case rareOption:
			o.Resolve(cs)
		case optionList:
			cs.apply(o)
		case *hedgeOption:
			o.Resolve(cs)
		default:
			cs.applyForeign(opt)
		}
	}
}

//go:noinline
func (cs *CallSettings) applyForeign(opt CallOption) {
	moved := *cs
	opt.Resolve(&moved)
	moved.GRPC = slices.Clip(moved.GRPC)
	*cs = moved
}

// Options returns opts as one option: a policy that can be named and passed
// around.
func Options(opts ...CallOption) CallOption { return optionList(slices.Clone(opts)) }

func (o optionList) Resolve(cs *CallSettings) { cs.apply(o) }

// Recommended returns the policy that suits most clients of one server: it
// retries UNAVAILABLE alone ([OnUnavailable]), makes at most 5 attempts, pauses
// with full jitter below an envelope of 100 ms that doubles up to 5 s, heeds
// the server's advice ([WithPushback]), and shares a [Throttle] of 10 tokens
// with ratio 0.1 among all calls that are given the same option. Make it once
// for each server. It sets no timeout: give the context a deadline.
func Recommended() CallOption {
	return Options(
		WithRetry(func() Retryer {
			return OnUnavailable(Backoff{Initial: 100 * time.Millisecond, Max: 5 * time.Second})
		}),
		WithMaxAttempts(5),
		WithPushback(),
		WithThrottle(new(Throttle)),
	)
}

// WithRetry makes the call ask a Retryer, made by fn at the first failure,
// whether and when to try again. Each call has a Retryer of its own.
//
// WithRetry(nil) switches retrying off, also for one call of a stub that was
// bound with a policy. WithRetry and [WithHedge] fill one slot: the later of
// them holds.
func WithRetry(fn func() Retryer) CallOption { return retryOption(fn) }

func (o retryOption) Resolve(cs *CallSettings) {
	cs.Retry = o
	if cs.hedged() {
		cs.amend(func(r *rareSettings) { r.hedge = nil })
	}
}

// WithGRPCOptions forwards opt to the gRPC stub of every attempt. The
// options of several WithGRPCOptions add up, in order.
//
// (In gax-go a second WithGRPCOptions drops the options of the first.)
func WithGRPCOptions(opt ...grpc.CallOption) CallOption {
	return grpcOption(slices.Clip(slices.Clone(opt)))
}

func (o grpcOption) Resolve(cs *CallSettings) {
	if len(cs.GRPC) == 0 {
		cs.GRPC = o
		return
	}
	cs.GRPC = slices.Clip(append(slices.Clip(cs.GRPC), o...))
}

// WithTimeout bounds the whole call, all its attempts and pauses, by d from
// its start. If the context has a deadline too, the earlier one holds. Zero
// and negative values remove a bound set by an earlier option.
//
// It costs what [context.WithTimeout] costs.
func WithTimeout(d time.Duration) CallOption { return timeoutOption(d) }

func (o timeoutOption) Resolve(cs *CallSettings) { cs.Timeout = max(time.Duration(o), 0) }

// WithAttemptTimeout bounds each attempt by d, or by what is left of the
// call's own time if that is less. When an attempt's own time ran out and
// the call's did not, the Retryer sees an [*AttemptTimeoutError]; see
// [OnAttemptTimeout]. Zero and negative values remove the bound.
//
// It costs a [context.WithTimeout] for each attempt. Without it, an attempt
// that hangs uses up the time of the whole call.
func WithAttemptTimeout(d time.Duration) CallOption {
	return rareOption(func(r *rareSettings) { r.attemptTimeout = max(d, 0) })
}

// WithMaxAttempts limits the call to n attempts, the first included, as
// maxAttempts of gRPC A6 does. When the last of them failed with an error
// that the Retryer would retry, the call returns an [*Error] with
// [ReasonAttempts]. Zero and negative values remove the limit.
func WithMaxAttempts(n int) CallOption { return maxAttemptsOption(n) }

func (o maxAttemptsOption) Resolve(cs *CallSettings) { cs.MaxAttempts = max(int(o), 0) }

// WithMaxElapsed ends the retrying d after the start of the call: no attempt
// is started then, nor a pause that would end then, and the call returns an
// [*Error] with [ReasonElapsed]. An attempt that is under way is not cut
// short; that is what [WithTimeout] is for. Zero and negative values remove
// the limit.
func WithMaxElapsed(d time.Duration) CallOption {
	return rareOption(func(r *rareSettings) { r.maxElapsed = max(d, 0) })
}

// WithThrottle makes the call share the budget t, which may refuse to send
// its attempts. WithThrottle(nil) removes the budget, as does a nil *Throttle
// or *AdaptiveThrottle.
func WithThrottle(t Throttler) CallOption {
	switch o := t.(type) {
	case *Throttle:
		if o == nil {
			t = nil
		}
	case *AdaptiveThrottle:
		if o == nil {
			t = nil
		}
	}
	return throttleOption{t}
}

func (o throttleOption) Resolve(cs *CallSettings) { cs.Throttle = o.Throttler }
