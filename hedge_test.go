package reprise

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// step is what the server does with one attempt: after wait, it answers with
// code, and the pushback trailer if there is one.
type step struct {
	wait time.Duration
	code codes.Code
	push string
}

func (st step) serve(ctx context.Context, n int) (*testpb.SimpleResponse, error) {
	_ = grpc.SetHeader(ctx, metadata.Pairs("answer", named(n).GetUsername()))
	trailer(ctx, "answer", named(n).GetUsername())
	if st.push != "" {
		trailer(ctx, pushbackTrailer, st.push)
	}
	if err := Sleep(ctx, st.wait); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	if st.code != codes.OK {
		return nil, status.Error(st.code, "as the script says")
	}
	return named(n), nil
}

func scripted(steps ...step) *server {
	return &server{unary: func(ctx context.Context, n int, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		return steps[min(n, len(steps))-1].serve(ctx, n)
	}}
}

func TestHedging(t *testing.T) {
	const s = time.Second
	slow := step{wait: time.Hour}
	for name, test := range map[string]struct {
		steps  []step
		delay  time.Duration
		max    int
		opts   []CallOption
		began  []time.Duration
		took   time.Duration
		winner string // "" if the call fails
		reason Reason // of the failure; 0 for the attempt's own error
		code   codes.Code
		tokens float64
	}{
		"a quick answer needs no hedge":               {steps: []step{{wait: s / 2}}, delay: s, began: []time.Duration{0}, took: s / 2, winner: "1", tokens: 10},
		"the first good one wins":                     {steps: []step{slow, slow, {wait: s / 2}}, delay: s, began: []time.Duration{0, s, 2 * s}, took: 5 * s / 2, winner: "3", tokens: 10},
		"the first attempt may still win":             {steps: []step{{wait: 3 * s}, slow}, delay: 2 * s, began: []time.Duration{0, 2 * s}, took: 3 * s, winner: "1", tokens: 10},
		"no more than MaxAttempts":                    {steps: []step{{wait: 9 * s}, slow, slow, slow}, delay: s, max: 3, began: []time.Duration{0, s, 2 * s}, took: 9 * s, winner: "1", tokens: 10},
		"no delay sends all at once":                  {steps: []step{slow, slow, {wait: s}}, max: 3, began: []time.Duration{0, 0, 0}, took: s, winner: "3", tokens: 10},
		"WithMaxAttempts bounds it too":               {steps: []step{{wait: 9 * s}, slow}, delay: s, opts: []CallOption{WithMaxAttempts(1)}, began: []time.Duration{0}, took: 9 * s, winner: "1", tokens: 10},
		"after a non-fatal code the next goes now":    {steps: []step{{s, codes.Unavailable, ""}, {wait: 9 * s}, {wait: s}}, delay: 5 * s, began: []time.Duration{0, s, 6 * s}, took: 7 * s, winner: "3", tokens: 9.1},
		"a fatal code ends the call":                  {steps: []step{slow, {s / 2, codes.NotFound, ""}}, delay: s, began: []time.Duration{0, s}, took: 3 * s / 2, code: codes.NotFound, tokens: 10},
		"a fatal code with a no costs a token":        {steps: []step{{s / 2, codes.NotFound, "-1"}}, delay: s, began: []time.Duration{0}, took: s / 2, code: codes.NotFound, tokens: 9},
		"when all have failed, the call has":          {steps: []step{{code: codes.Unavailable}}, delay: s, began: []time.Duration{0, 0, 0, 0}, reason: ReasonAttempts, code: codes.Unavailable, tokens: 6},
		"pushback n sets the time of the next":        {steps: []step{{s, codes.Unavailable, "3000"}, slow, {wait: s}}, delay: 2 * s, began: []time.Duration{0, 4 * s, 6 * s}, took: 7 * s, winner: "3", tokens: 9.1},
		"pushback n, then the delay":                  {steps: []step{{s, codes.Unavailable, "500"}, slow, {wait: s}}, delay: 2 * s, began: []time.Duration{0, 3 * s / 2, 7 * s / 2}, took: 9 * s / 2, winner: "3", tokens: 9.1},
		"pushback no starts no more":                  {steps: []step{{wait: 9 * s}, {s / 2, codes.Unavailable, "-1"}, slow}, delay: s, began: []time.Duration{0, s}, took: 9 * s, winner: "1", tokens: 9.1},
		"pushback no from the only one":               {steps: []step{{s, codes.Unavailable, "-1"}}, delay: 2 * s, began: []time.Duration{0}, took: s, reason: ReasonPushback, code: codes.Unavailable, tokens: 9},
		"pushback beyond the deadline":                {steps: []step{{s, codes.Unavailable, "3600000"}}, delay: 2 * s, opts: []CallOption{WithTimeout(10 * s)}, began: []time.Duration{0}, took: s, reason: ReasonDeadline, code: codes.DeadlineExceeded, tokens: 9},
		"the deadline ends all":                       {steps: []step{slow}, delay: 2 * s, max: 2, opts: []CallOption{WithTimeout(5 * s)}, began: []time.Duration{0, 2 * s}, took: 5 * s, reason: ReasonDeadline, code: codes.DeadlineExceeded, tokens: 8},
		"a no is not forgotten":                       {steps: []step{{wait: 9 * s}, {5 * s / 2, codes.Unavailable, ""}, {s / 2, codes.Unavailable, "-1"}, slow}, delay: s, began: []time.Duration{0, s, 2 * s}, took: 9 * s, winner: "1", tokens: 8.1},
		"pushback to the deadline":                    {steps: []step{{s, codes.Unavailable, "9000"}}, delay: 2 * s, opts: []CallOption{WithTimeout(10 * s)}, began: []time.Duration{0}, took: s, reason: ReasonDeadline, code: codes.DeadlineExceeded, tokens: 9},
		"no hedge after the elapsed time":             {steps: []step{{wait: 9 * s}, slow}, delay: s, opts: []CallOption{WithMaxElapsed(5 * s / 2)}, began: []time.Duration{0, s, 2 * s}, took: 9 * s, winner: "1", tokens: 10},
		"a failure after the elapsed time":            {steps: []step{{3 * s, codes.Unavailable, ""}}, delay: 9 * s, opts: []CallOption{WithMaxElapsed(3 * s)}, began: []time.Duration{0}, took: 3 * s, reason: ReasonElapsed, code: codes.Unavailable, tokens: 9},
		"pushback beyond the elapsed time":            {steps: []step{{s, codes.Unavailable, "2000"}}, delay: 9 * s, opts: []CallOption{WithMaxElapsed(3 * s)}, began: []time.Duration{0}, took: s, reason: ReasonElapsed, code: codes.Unavailable, tokens: 9},
		"an attempt's own time is non-fatal if named": {steps: []step{slow, {wait: s / 2}}, delay: 9 * s, opts: []CallOption{WithAttemptTimeout(s)}, began: []time.Duration{0, s}, took: 3 * s / 2, winner: "2", tokens: 9.1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				server, throttle := scripted(test.steps...), NewThrottle(10, 0.1)
				policy := HedgePolicy{MaxAttempts: test.max, Delay: test.delay, NonFatalCodes: []codes.Code{codes.Unavailable, codes.DeadlineExceeded}}
				if test.max == 0 {
					policy.MaxAttempts = 4
				}
				u := bindUnary(serve(t, server), WithHedge(policy), WithThrottle(throttle), WithPushback())
				var header, trailer metadata.MD
				begin := time.Now()
				resp, err := u.Call(t.Context(), &testpb.SimpleRequest{},
					append(test.opts, WithGRPCOptions(grpc.Header(&header), grpc.Trailer(&trailer)))...)
				wantElapsed(t, begin, test.took)
				if !slices.Equal(server.times(), test.began) {
					t.Errorf("attempts at %v, want %v", server.times(), test.began)
				}
				if test.winner != "" {
					if err != nil || resp.GetUsername() != test.winner {
						t.Errorf("%v, %v", resp, err)
					}
					if got := header.Get("answer"); !slices.Equal(got, []string{test.winner}) {
						t.Errorf("the header is that of %v", got)
					}
					if got := trailer.Get("answer"); !slices.Equal(got, []string{test.winner}) {
						t.Errorf("the trailer is that of %v", got)
					}
				} else {
					wantCode(t, err, test.code)
					if reasonOf(err) != test.reason {
						t.Errorf("got %v", err)
					}
				}
				if got := throttle.Tokens(); got != test.tokens {
					t.Errorf("%v tokens, want %v", got, test.tokens)
				}
			})
		})
	}
}

func TestHedgesGoOutOnlyWhileTheThrottleIsOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shut := NewThrottle(10, 0.1)
		for range 5 {
			shut.Done(true)
		}
		for _, delay := range []time.Duration{0, time.Second} {
			s := scripted(step{wait: 3 * time.Second})
			u := bindUnary(serve(t, s), WithHedge(HedgePolicy{MaxAttempts: 3, Delay: delay, NonFatalCodes: []codes.Code{codes.Unavailable}}), WithThrottle(shut))
			if _, err := u.Call(t.Context(), nil); err != nil || s.calls() != 1 {
				t.Errorf("delay %v: %v after %d attempts", delay, err, s.calls())
			}
			for range 5 {
				shut.Done(true)
			}
			s = scripted(step{code: codes.Unavailable})
			u = bindUnary(serve(t, s), WithHedge(HedgePolicy{MaxAttempts: 3, Delay: delay, NonFatalCodes: []codes.Code{codes.Unavailable}}), WithThrottle(shut))
			_, err := u.Call(t.Context(), nil)
			stopped(t, err, ReasonThrottled)
			if s.calls() != 1 {
				t.Errorf("delay %v: %d attempts", delay, s.calls())
			}
		}
	})
}

func TestHedgingPausesUntilTheServerAllowsAndEndsIfTheThrottleShutMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		throttle := NewThrottle(10, 0.1)
		s := scripted(step{time.Second, codes.Unavailable, "2000"})
		u := bindUnary(serve(t, s), WithHedge(HedgePolicy{Delay: time.Hour, NonFatalCodes: []codes.Code{codes.Unavailable}}), WithThrottle(throttle), WithPushback())
		time.AfterFunc(2*time.Second, func() {
			for range 9 {
				throttle.Done(true)
			}
		})
		begin := time.Now()
		_, err := u.Call(t.Context(), nil)
		stopped(t, err, ReasonThrottled)
		wantElapsed(t, begin, 3*time.Second)
	})
}

func TestHedgedAttemptsOwnWhatTheyWrite(t *testing.T) {
	// Under -race, all attempts answer at once, each with its own header,
	// trailer and peer.
	t.Parallel()
	s := scripted(step{})
	conn := serve(t, s)
	var finished atomic.Int32
	u := bindUnary(conn, WithHedge(HedgePolicy{MaxAttempts: 4}))
	for range 50 {
		var header, trailer metadata.MD
		var from peer.Peer
		req := &testpb.SimpleRequest{}
		resp, err := u.Call(t.Context(), req, WithGRPCOptions(
			grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from), grpc.OnFinish(func(error) { finished.Add(1) })))
		if err != nil {
			t.Fatal(err)
		}
		req.ResponseSize = 1 // the request is the caller's again
		if got := header.Get("answer"); !slices.Equal(got, []string{resp.GetUsername()}) || !slices.Equal(got, trailer.Get("answer")) {
			t.Fatalf("response of %s, header of %v, trailer of %v", resp.GetUsername(), got, trailer.Get("answer"))
		}
		if from.Addr == nil {
			t.Fatal("no peer")
		}
	}
	if finished.Load() != 50 {
		t.Errorf("OnFinish ran %d times in 50 calls", finished.Load())
	}
}

func TestHedgedAttemptsAreNumbered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := scripted(step{wait: time.Hour}, step{wait: time.Hour}, step{})
		u := bindUnary(serve(t, s), WithHedge(HedgePolicy{MaxAttempts: 3, Delay: time.Second}))
		if _, err := u.Call(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if want := []string{"-", "1", "2"}; !slices.Equal(s.previous(), want) {
			t.Errorf("attempt headers %q, want %q", s.previous(), want)
		}
	})
}

func TestAHedgedCallThatFailsBringsTheTrailerOfTheLastFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, code := range []codes.Code{codes.NotFound, codes.Unavailable} {
			var header, trailer metadata.MD
			var from peer.Peer
			u := bindUnary(serve(t, scripted(step{wait: 3 * time.Second, code: code}, step{wait: time.Second, code: codes.Unavailable})),
				WithHedge(HedgePolicy{MaxAttempts: 2, Delay: time.Second, NonFatalCodes: []codes.Code{codes.Unavailable}}))
			_, err := u.Call(t.Context(), nil, WithGRPCOptions(grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from)))
			wantCode(t, err, code)
			if want := []string{"1"}; !slices.Equal(header.Get("answer"), want) || !slices.Equal(trailer.Get("answer"), want) || from.Addr == nil {
				t.Errorf("%v: header %v, trailer %v, peer %v", code, header, trailer, from)
			}
		}
	})
}

func TestAHedgedCallThatRunsOutOfTimeSaysWhatItsAttemptsSaid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		u := hedging(3, func(ctx context.Context, n int) error {
			if n == 1 {
				_ = Sleep(ctx, 1500*time.Millisecond)
				return errDown
			}
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		}, WithTimeout(4*time.Second))
		_, err := u.Call(t.Context(), nil)
		e := stopped(t, err, ReasonDeadline)
		if e.Made != 3 || e.Attempts[0].Err != errDown || status.Code(e.Err) != codes.DeadlineExceeded { //nolint:errorlint // the very error
			t.Fatalf("got %+v", e)
		}
		for _, a := range e.Attempts {
			want := map[int]time.Duration{1: 1500 * time.Millisecond, 2: 3 * time.Second, 3: 2500 * time.Millisecond}[a.Number]
			if a.Start.IsZero() || a.Duration != want {
				t.Errorf("attempt %d took %v from %v, want %v", a.Number, a.Duration, a.Start, want)
			}
		}
	})
}

func TestAnAnswerAtTheDeadlineWinsAHedgedCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for range 20 { // chance must have no part in it
			for want, late := range map[error]error{nil: nil, errMissing: errMissing} {
				u := hedging(2, func(ctx context.Context, n int) error {
					<-ctx.Done()
					if n == 2 {
						return late
					}
					return ctx.Err()
				}, WithTimeout(3*time.Second))
				resp, err := u.Call(t.Context(), nil)
				if err != want || resp == nil || resp.n != 2 { //nolint:errorlint // the very error
					t.Fatalf("%v, %v, want %v", resp, err, want)
				}
			}
		}
	})
}

func TestNoHedgeStartsOnADeadContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for range 20 { // chance must have no part in it
			ctx, cancel := context.WithCancel(t.Context())
			made := 0
			u := hedging(3, func(context.Context, int) error { made++; cancel(); return errDown })
			_, err := u.Call(ctx, nil)
			if e := stopped(t, err, ReasonCanceled); made != 1 || e.Made != 1 || e.Err != errDown { //nolint:errorlint // the very error
				t.Errorf("%d attempts: got %+v", made, e)
			}
		}
		made := 0
		u := hedging(3, func(ctx context.Context, _ int) error {
			made++
			return Sleep(context.WithoutCancel(ctx), 3*time.Second)
		})
		_, err := u.Call(aheadOfTimer{t.Context(), time.Now().Add(time.Second)}, nil)
		if err != nil || made != 1 {
			t.Errorf("%v after %d attempts", err, made)
		}
		made = 0
		u = hedging(3, func(ctx context.Context, _ int) error {
			made++
			_ = Sleep(context.WithoutCancel(ctx), time.Second/2)
			return errDown
		})
		_, err = u.Call(aheadOfTimer{t.Context(), time.Now().Add(time.Second / 2)}, nil)
		if stopped(t, err, ReasonDeadline); made != 1 {
			t.Errorf("%d attempts, the second after the deadline", made)
		}
	})
}

func TestTheLosersOfAHedgedCallAreAccepted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		throttle := NewAdaptiveThrottle(AdaptiveConfig{Rand: highest})
		u := hedging(3, func(ctx context.Context, n int) error {
			if n == 3 {
				return nil
			}
			return Sleep(ctx, time.Hour)
		}, WithThrottle(throttle))
		if _, err := u.Call(t.Context(), nil); err != nil || throttle.total != (adaptiveBucket{requests: 3, accepts: 3}) {
			t.Errorf("counted %+v: %v", throttle.total, err)
		}
	})
}

func TestAHedgedCallInsideAnotherCountsItsOwnAttempts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var seen []int
		u := hedging(1, func(_ context.Context, n int) error { seen = append(seen, n); return errMissing })
		_ = Invoke(t.Context(), func(ctx context.Context, _ CallSettings) error {
			_, _ = u.Call(ctx, nil)
			return errDown
		}, onDown(steady(1)), WithMaxAttempts(2))
		if !slices.Equal(seen, []int{1, 1}) {
			t.Errorf("the hedged attempts were numbered %v", seen)
		}
	})
}

func TestAHedgedCallRecordsThePauseThatTheServerAskedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		u := bindUnary(serve(t, scripted(step{0, codes.Unavailable, "2000"})), WithPushback(), WithTimeout(time.Second),
			WithHedge(HedgePolicy{NonFatalCodes: []codes.Code{codes.Unavailable}, Delay: time.Hour}))
		_, err := u.Call(t.Context(), nil)
		if e := stopped(t, err, ReasonDeadline); e.Attempts[0].Pause != 2*time.Second {
			t.Errorf("recorded a pause of %v", e.Attempts[0].Pause)
		}
	})
}

func TestAHedgeIsOneRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		u := bindUnary(serve(t, scripted(step{0, codes.Unavailable, "2000"})), WithPushback(),
			WithHedge(HedgePolicy{MaxAttempts: 2, Delay: time.Hour, NonFatalCodes: []codes.Code{codes.Unavailable}}))
		for _, test := range []struct {
			timeout  time.Duration
			reason   Reason
			requests int64
		}{{time.Hour, ReasonAttempts, 2}, {time.Second, ReasonDeadline, 1}} {
			throttle := NewAdaptiveThrottle(AdaptiveConfig{Rand: highest})
			_, err := u.Call(t.Context(), nil, WithThrottle(throttle), WithTimeout(test.timeout))
			stopped(t, err, test.reason)
			if throttle.total != (adaptiveBucket{requests: test.requests}) {
				t.Errorf("%v: counted %+v", test.reason, throttle.total)
			}
		}
	})
}

func TestRetryAndHedgeFillOneSlot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hedge := WithHedge(HedgePolicy{MaxAttempts: 2, Delay: time.Second})
		retry := WithRetry(func() Retryer { return OnUnavailable(steady(time.Minute)) })
		for name, test := range map[string]struct {
			opts  []CallOption
			began []time.Duration
		}{
			"hedge last":   {[]CallOption{retry, hedge}, []time.Duration{0, time.Second}},
			"retry last":   {[]CallOption{hedge, retry}, []time.Duration{0, 2*time.Second + time.Minute}},
			"switched off": {[]CallOption{hedge, WithRetry(nil)}, []time.Duration{0}},
		} {
			s := scripted(step{wait: 2 * time.Second, code: codes.Unavailable}, step{wait: time.Minute})
			_, _ = bindUnary(serve(t, s), test.opts...).Call(t.Context(), nil)
			if !slices.Equal(s.times(), test.began) {
				t.Errorf("%s: attempts at %v, want %v", name, s.times(), test.began)
			}
		}
	})
}

func TestHedgingNeedsABoundUnaryCall(t *testing.T) {
	t.Parallel()
	hedge := WithHedge(HedgePolicy{})
	conn := serve(t, &server{}, grpc.WithChainUnaryInterceptor(UnaryClientInterceptor()), grpc.WithChainStreamInterceptor(StreamClientInterceptor()))
	client := testpb.NewTestServiceClient(conn)
	for name, call := range map[string]func() error{
		"Invoke": func() error { return Invoke(t.Context(), failing(nil).call, hedge) },
		"Do": func() error {
			_, err := Do(t.Context(), func(context.Context) (int, error) { return 0, nil }, hedge)
			return err
		},
		"ServerStream": func() error {
			_, err := NewServerStream(client.StreamingOutputCall, hedge).Open(t.Context(), nil)
			return err
		},
		"Stream": func() error { _, err := NewStream(client.FullDuplexCall, hedge).Open(t.Context()); return err },
		"unary interceptor": func() error {
			_, err := client.UnaryCall(t.Context(), nil, PerCall(hedge))
			return err
		},
		"stream interceptor": func() error {
			_, err := client.StreamingOutputCall(t.Context(), nil, PerCall(hedge))
			return err
		},
		"bidi interceptor": func() error {
			_, err := client.FullDuplexCall(t.Context(), PerCall(hedge))
			return err
		},
	} {
		err := call()
		if _, ok := errors.AsType[*ArgumentError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHedgePolicyDefaults(t *testing.T) {
	t.Parallel()
	for given, want := range map[int]int{-1: 2, 0: 2, 1: 1, 5: 5, 16: 16, 17: 16, 1 << 40: 16} {
		cs := resolved(WithHedge(HedgePolicy{MaxAttempts: given, Delay: -1}))
		if cs.rare.hedge.limit != want || cs.rare.hedge.delay != 0 {
			t.Errorf("MaxAttempts %d: %+v", given, cs.rare.hedge)
		}
	}
}

func TestHedgedCallOnADeadContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	u := NewUnary(func(context.Context, *ping, ...grpc.CallOption) (*ping, error) {
		t.Error("an attempt was made")
		return nil, nil
	}, WithHedge(HedgePolicy{}))
	_, err := u.Call(ctx, nil, WithGRPCOptions(grpc.OnFinish(func(error) { t.Error("a call finished that was never made") })))
	stopped(t, err, ReasonCanceled)
}

func TestHedgesWithoutAnAnswerAreNotTakenForAccepted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		throttle := NewAdaptiveThrottle(AdaptiveConfig{})
		u := bindUnary(serve(t, scripted(step{wait: time.Hour})), WithThrottle(throttle), WithTimeout(time.Second),
			WithHedge(HedgePolicy{MaxAttempts: 2}))
		_, err := u.Call(t.Context(), nil)
		stopped(t, err, ReasonDeadline)
		if p := throttle.Rejection(); p < 0.6 {
			t.Errorf("after attempts that nobody answered, the throttle rejects %v", p)
		}
	})
}

// pausingThrottle admits first attempts alone, and has refused calls wait.
type pausingThrottle struct{ refuseAll bool }

func (p pausingThrottle) Admit(attempt int) bool    { return attempt == 1 && !p.refuseAll }
func (pausingThrottle) Done(bool)                   {}
func (pausingThrottle) RefusalPause() time.Duration { return time.Minute }

func TestARefusedHedgedCallWaitsAsOthersDo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		u := bindUnary(serve(t, scripted(step{code: codes.Unavailable})), WithThrottle(pausingThrottle{}),
			WithHedge(HedgePolicy{NonFatalCodes: []codes.Code{codes.Unavailable}}))
		begin := time.Now()
		_, err := u.Call(t.Context(), nil)
		stopped(t, err, ReasonThrottled)
		wantElapsed(t, begin, time.Minute)
	})
}

// slowThrottle admits all, and takes its time for attempts after the first.
type slowThrottle struct{ takes time.Duration }

func (s slowThrottle) Admit(attempt int) bool {
	if attempt > 1 {
		time.Sleep(s.takes)
	}
	return true
}
func (slowThrottle) Done(bool) {}

func TestAHedgedCallWhoseTimeEndsWithThePauseWasNotThrottled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := scripted(step{time.Second, codes.Unavailable, "1000"})
		u := bindUnary(serve(t, server), WithThrottle(slowThrottle{time.Millisecond}), WithPushback(),
			WithMaxElapsed(2*time.Second+time.Nanosecond),
			WithHedge(HedgePolicy{Delay: time.Hour, NonFatalCodes: []codes.Code{codes.Unavailable}}))
		_, err := u.Call(t.Context(), nil)
		stopped(t, err, ReasonElapsed)
		if server.calls() != 1 {
			t.Errorf("%d attempts", server.calls())
		}
	})
}

func TestATimeoutBoundsThePauseOfARefusedFirstAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		refuse, timeout := WithThrottle(pausingThrottle{refuseAll: true}), WithTimeout(time.Second)
		client := testpb.NewTestServiceClient(serve(t, &server{}))
		for name, call := range map[string]func() error{
			"Invoke": func() error { return Invoke(t.Context(), failing(nil).call, refuse, timeout) },
			"hedged": func() error {
				_, err := NewUnary(client.UnaryCall, refuse, timeout, WithHedge(HedgePolicy{})).Call(t.Context(), nil)
				return err
			},
			"ServerStream": func() error {
				_, err := NewServerStream(client.StreamingOutputCall, refuse, timeout).Open(t.Context(), nil)
				return err
			},
			"Stream": func() error {
				_, err := NewStream(client.FullDuplexCall, refuse, timeout).Open(t.Context())
				return err
			},
		} {
			begin := time.Now()
			stopped(t, call(), ReasonDeadline)
			if took := time.Since(begin); took != time.Second {
				t.Errorf("%s: it took %v", name, took)
			}
		}
	})
}
