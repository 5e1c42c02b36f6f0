package reprise

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// HedgePolicy says how a call is hedged, after gRPC A6: the same request is
// sent again while earlier attempts are still under way, and the first good
// answer wins. It cuts the tail of latencies at the price of a few more
// requests; a Delay near the 95th percentile is customary. Hedge only calls
// that may be executed more than once.
type HedgePolicy struct {
	// MaxAttempts is how many attempts there may be, the first included.
	// Zero and negative values stand for 2, and values above 16 for 16.
	MaxAttempts int

	// Delay is the time between the starts of attempts. Zero and negative
	// values start all of them at once.
	Delay time.Duration

	// NonFatalCodes are the codes of errors after which the call goes on
	// with its other attempts, and the next of them starts at once. Any
	// other error ends the call.
	NonFatalCodes []codes.Code
}

// WithHedge hedges a bound call, as p says. WithHedge and [WithRetry] fill
// one slot: the later of them holds. Hedging needs a reply of its own for each
// attempt, so only bound unary calls ([Unary]) can be hedged; [Invoke], [Do],
// streams and interceptors return an [*ArgumentError].
//
// Each attempt has its own reply and its own targets of [grpc.Header],
// [grpc.Trailer] and [grpc.Peer]; those that the caller passed receive what
// the winner brought, or the last attempt to end if all have failed. The losers
// are cancelled, and Call returns when they have, which gRPC stubs do at once.
// The attempts share the request, which nothing may change before that, no
// interceptor either.
//
// The throttle of the call is asked before each attempt but the first
// ([WithThrottle]); server advice is heeded under [WithPushback]; no attempt is
// started after the time of [WithMaxElapsed].
//
// The attempts run in goroutines of their own. When one of them panics, the
// others are cancelled, and Call panics with a [*PanicError] when they have
// returned; when one calls [runtime.Goexit], as the FailNow of a test does, Call
// does so too. This holds also for a loser.
func WithHedge(p HedgePolicy) CallOption {
	h := &hedgePolicy{limit: min(p.MaxAttempts, mostHedged), delay: max(p.Delay, 0)}
	if h.limit <= 0 {
		h.limit = 2
	}
	h.nonFatal = *OnCodes(p.NonFatalCodes, Backoff{}).(*codeRetryer) //nolint:forcetypeassert // it is what OnCodes makes
	return &hedgeOption{h}
}

// mostHedged bounds the attempts of a hedged call, which may all be under way
// at once.
const mostHedged = 16

type hedgePolicy struct {
	limit    int
	delay    time.Duration
	nonFatal codeRetryer
}

type hedgeOption struct{ policy *hedgePolicy }

func (o *hedgeOption) Resolve(cs *CallSettings) {
	cs.Retry = nil
	cs.amend(func(r *rareSettings) { r.hedge = o.policy })
}

func (cs *CallSettings) hedged() bool { return cs.rare != nil && cs.rare.hedge != nil }

func errHedgeUnbound(fn string) error {
	return &ArgumentError{Func: fn, Problem: "hedging needs a bound unary call (NewUnary)"}
}

// hedge is a hedged call under way.
type hedge struct {
	loop

	policy  *hedgePolicy
	cs      CallSettings
	call    func(ctx context.Context, cs CallSettings, i int) error
	results chan hedgeResult
	started int
	running int
	latest  int    // the attempt that ended last, -1 before
	advice  advice // of that attempt
	sealed  bool   // no more attempts: the server said so
	death   *death // of the first attempt that did not return
}

type hedgeResult struct {
	index int
	outcome
	death *death // nil if the attempt returned
}

// hedgeCall makes the attempts of a hedged call. call makes attempt i, from 0;
// the calls run concurrently. It returns which attempt ended last before the
// call was decided, that is the winner of a success, and -1 if none was made.
// All calls have returned when it does.
func hedgeCall(
	ctx context.Context, cs CallSettings, call func(ctx context.Context, cs CallSettings, i int) error,
) (latest int, err error) {
	ctx = cs.observedCall(ctx)
	var cancel context.CancelFunc
	if cs.Timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, cs.Timeout)
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	defer cancel()
	if refused := admitFirst(ctx, &cs); refused != nil {
		return -1, refused
	}
	h := &hedge{policy: cs.rare.hedge, cs: cs, call: call, latest: -1}
	if cs.MaxAttempts > 0 && cs.MaxAttempts < h.policy.limit {
		h.policy = &hedgePolicy{limit: cs.MaxAttempts, delay: h.policy.delay, nonFatal: h.policy.nonFatal}
	}
	h.results = make(chan hedgeResult, h.policy.limit)
	h.began = time.Now()
	err = h.run(ctx)
	if h.death == nil {
		h.cs.Attempt = h.started
		h.observeEnd(ctx, &h.cs, err)
	}
	cancel()
	h.drain()
	if h.death != nil {
		h.death.repeat()
	}
	return h.latest, err
}

// run starts attempts and takes their results until the call is decided.
func (h *hedge) run(ctx context.Context) error {
	h.start(ctx)
	timer := time.NewTimer(h.policy.delay)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return h.expire(ctx)
		case <-timer.C:
			if spent(ctx) {
				return h.expire(ctx)
			}
			started := h.startNext(ctx)
			switch {
			case h.running == 0 && h.late(0):
				return h.stopped(ReasonElapsed)
			case h.running == 0:
				return h.refused(ctx, h.cs.Throttle)
			}
			// Without a delay, a refused attempt waits for a result.
			if !h.full() && (started || h.policy.delay > 0) {
				timer.Reset(h.policy.delay)
			}
		case r := <-h.results:
			if decided, err := h.take(ctx, &r); decided {
				return err
			}
			if spent(ctx) {
				return h.expire(ctx)
			}
			wait, over := h.next(ctx)
			if over != nil {
				return over
			}
			if !h.full() {
				timer.Reset(wait)
			}
		}
	}
}

// take takes the result of an attempt. It reports whether the call is decided,
// and the error that it then has.
func (h *hedge) take(ctx context.Context, r *hedgeResult) (decided bool, err error) {
	h.running--
	if r.death != nil {
		h.death = r.death
		return true, nil
	}
	h.latest = r.index
	if r.err == nil {
		succeeded(h.cs.Throttle)
		return true, nil
	}
	h.now = time.Now()
	h.record(r.index+1, &r.outcome, h.now, 0)
	h.advice = h.cs.advice(r.err, r.trailer)
	h.sealed = h.sealed || h.advice.stop
	c, ok := codeOf(r.err)
	nonFatal := ok && h.policy.nonFatal.has(c)
	h.cs.countFailure(ctx, r.err, nonFatal || h.advice.stop)
	if nonFatal || spent(ctx) && isContextual(r.err) {
		return false, nil
	}
	return true, r.err
}

// expire ends a call whose context is spent, as the attempts that are under way
// still decide: one of them may have been answered in time.
func (h *hedge) expire(ctx context.Context) error {
	for h.running > 0 {
		r := <-h.results
		if decided, err := h.take(ctx, &r); decided {
			return err
		}
	}
	return h.ended(ctx)
}

// next decides what follows the failure of the latest attempt: the error of
// the call, or how long to wait before the next attempt starts.
func (h *hedge) next(ctx context.Context) (wait time.Duration, over error) {
	wait, _ = h.advice.apply(0, nil)
	h.last().Pause = wait
	// A6: without advice, the next hedge is sent at once, then the delay resumes.
	admitted := wait > 0 || h.startNext(ctx)
	switch {
	case h.running > 0 && wait == 0:
		return h.policy.delay, nil
	case h.running > 0:
		return wait, nil
	}
	switch {
	case h.sealed:
		return 0, h.stopped(ReasonPushback)
	case h.started >= h.policy.limit:
		return 0, h.stopped(ReasonAttempts)
	case h.late(wait):
		return 0, h.stopped(ReasonElapsed)
	case !admitted || !h.admitted():
		return 0, h.refused(ctx, h.cs.Throttle)
	}
	unsent(h.cs.Throttle, h.now) // it is asked again when the attempt starts
	if deadline, ok := ctx.Deadline(); ok && wait >= deadline.Sub(h.now) {
		return 0, h.stopped(ReasonDeadline)
	}
	return wait, nil
}

// full reports whether the call starts no further attempt.
func (h *hedge) full() bool {
	return h.sealed || h.started >= h.policy.limit || h.late(0)
}

// late reports whether the time of WithMaxElapsed is over after wait.
func (h *hedge) late(wait time.Duration) bool {
	limit := h.cs.rare.maxElapsed
	return limit > 0 && wait >= limit-time.Since(h.began)
}

func (h *hedge) admitted() bool {
	return h.cs.Throttle == nil || h.cs.Throttle.Admit(h.started+1)
}

// startNext starts another attempt if there may be one now.
func (h *hedge) startNext(ctx context.Context) bool {
	if h.full() || !h.admitted() {
		return false
	}
	h.start(ctx)
	return true
}

func (h *hedge) start(ctx context.Context) {
	i := h.started
	h.started++
	h.running++
	cs := h.cs
	cs.Attempt = h.started
	if i == 0 {
		ctx = firstContext(ctx)
	} else {
		ctx = &attemptContext{Context: ctx, number: cs.Attempt}
	}
	go func() {
		r := hedgeResult{index: i, death: new(death)} // unless it returns
		defer func() {
			if r.death != nil {
				r.death.note(recover())
			}
			h.results <- r
		}()
		start := time.Now()
		r.outcome = attempt(ctx, cs, func(ctx context.Context, cs CallSettings) error {
			return h.call(ctx, cs, i)
		})
		r.start, r.death = start, nil
	}()
}

// drain waits for the attempts that were under way when the call was decided.
// That says nothing against them.
func (h *hedge) drain() {
	for ; h.running > 0; h.running-- {
		r := <-h.results
		if h.death == nil {
			h.death = r.death
		}
		declined(h.cs.Throttle, nil)
	}
}

// targets are the places of one hedged attempt for what gRPC reports beside
// the reply.
type targets struct {
	header, trailer metadata.MD
	peer            peer.Peer
}

// redirect returns opts with the caller's targets replaced by those of t, and
// without the caller's OnFinish functions. The first n options are the
// caller's, the others belong to the attempt already.
func (t *targets) redirect(opts []grpc.CallOption, n int) []grpc.CallOption {
	own := slices.Clone(opts)
	for i, opt := range own[:n] {
		switch opt.(type) {
		case grpc.HeaderCallOption:
			own[i] = grpc.Header(&t.header)
		case grpc.TrailerCallOption:
			own[i] = grpc.Trailer(&t.trailer)
		case grpc.PeerCallOption:
			own[i] = grpc.Peer(&t.peer)
		case grpc.OnFinishCallOption:
			own[i] = grpc.EmptyCallOption{}
		}
	}
	return own
}

// deliver copies t, the targets of the deciding attempt, to those of the caller.
func (t *targets) deliver(opts []grpc.CallOption) {
	for _, opt := range opts {
		switch o := opt.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = t.header
		case grpc.TrailerCallOption:
			*o.TrailerAddr = t.trailer
		case grpc.PeerCallOption:
			*o.PeerAddr = t.peer
		}
	}
}

func finish(opts []grpc.CallOption, err error) {
	for _, opt := range opts {
		if o, ok := opt.(grpc.OnFinishCallOption); ok {
			o.OnFinish(err)
		}
	}
}

// callHedged is Call under a hedging policy.
func (u *Unary[Req, Resp]) callHedged(ctx context.Context, req *Req, cs CallSettings) (*Resp, error) {
	type answer struct {
		targets

		resp *Resp
	}
	answers := make([]answer, cs.rare.hedge.limit)
	latest, err := hedgeCall(ctx, cs, func(ctx context.Context, own CallSettings, i int) (err error) {
		a := &answers[i]
		a.resp, err = u.stub(ctx, req, a.redirect(own.GRPC, len(cs.GRPC))...)
		return err
	})
	if latest < 0 {
		return nil, err
	}
	answers[latest].deliver(cs.GRPC)
	finish(cs.GRPC, err)
	return answers[latest].resp, err
}
