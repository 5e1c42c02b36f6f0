package reprise

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func retryIn(d time.Duration) error {
	st, err := status.New(codes.Unavailable, "later").WithDetails(
		&errdetails.ErrorInfo{Reason: "BUSY"}, &errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
	if err != nil {
		return err
	}
	return st.Err()
}

// pushing is a call whose attempts fail and bring trailers, one list of
// values for each attempt; none after the last.
func pushing(s *script, trailers ...[]string) APICall {
	return func(ctx context.Context, cs CallSettings) error {
		err := s.call(ctx, cs)
		if n := len(s.began); n <= len(trailers) {
			for _, opt := range cs.GRPC {
				if o, ok := opt.(grpc.TrailerCallOption); ok {
					*o.TrailerAddr = metadata.MD{pushbackTrailer: trailers[n-1]}
				}
			}
		}
		return err
	}
}

func TestPushbackTrailerIsWaitedExactlyAndRestartsTheBackoff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := failing(errDown)
		err := Invoke(t.Context(), pushing(s, nil, nil, []string{"700"}, nil, []string{"0"}),
			onDown(Backoff{Initial: time.Second, Max: time.Hour, Jitter: JitterNone}), WithPushback(), WithMaxAttempts(7))
		stopped(t, err, ReasonAttempts)
		var pauses []time.Duration
		for i := range s.began[1:] {
			pauses = append(pauses, s.began[i+1]-s.began[i])
		}
		want := []time.Duration{time.Second, 2 * time.Second, 700 * time.Millisecond, time.Second, 0, time.Second}
		if !slices.Equal(pauses, want) {
			t.Errorf("pauses %v, want %v", pauses, want)
		}
	})
}

func TestPushbackThatSaysNoStopsTheCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, values := range [][]string{{"-1"}, {"soon"}, {""}, {"1.5"}, {"2147483648"}, {"-2147483649"}, {"0x10"}, {"1_000"}, {" 1"}, {"1", "2"}, {"5", "5"}} {
			throttle := NewThrottle(10, 0.1)
			s := failing(errDown)
			err := Invoke(t.Context(), pushing(s, values), onDown(steady(1)), WithPushback(), WithThrottle(throttle), WithMaxAttempts(3))
			e := stopped(t, err, ReasonPushback)
			if e.Made != 1 || throttle.Tokens() != 9 {
				t.Errorf("%q: %d attempts, %v tokens", values, e.Made, throttle.Tokens())
			}
			wantCode(t, err, codes.Unavailable)
		}
		// A6: it costs a token also where the code is not retried.
		throttle := NewThrottle(10, 0.1)
		err := Invoke(t.Context(), pushing(failing(errMissing), []string{"-1"}), onDown(steady(1)), WithPushback(), WithThrottle(throttle))
		if err != errMissing || throttle.Tokens() != 9 { //nolint:errorlint // the very error is promised
			t.Errorf("%v, %v tokens", err, throttle.Tokens())
		}
	})
}

func TestPushbackMakesNothingRetryableAndCrossesNoLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		begin := time.Now()
		err := Invoke(t.Context(), pushing(failing(errMissing), []string{"5"}), onDown(steady(1)), WithPushback())
		if err != errMissing { //nolint:errorlint // the very error is promised
			t.Error(err)
		}
		always := [][]string{{"5000"}, {"5000"}, {"5000"}}
		err = Invoke(t.Context(), pushing(failing(errDown), always...), onDown(steady(1)), WithPushback(), WithMaxAttempts(1))
		stopped(t, err, ReasonAttempts)
		err = Invoke(t.Context(), pushing(failing(errDown), always...), onDown(steady(1)), WithPushback(), WithTimeout(5*time.Second))
		stopped(t, err, ReasonDeadline)
		err = Invoke(t.Context(), pushing(failing(errDown), always...), onDown(steady(1)), WithPushback(), WithMaxElapsed(5*time.Second))
		stopped(t, err, ReasonElapsed)
		wantElapsed(t, begin, 0)
	})
}

func TestRetryInfoIsALowerBound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		spread := map[time.Duration]bool{}
		for range 50 {
			s := failing(retryIn(10*time.Second), nil)
			if err := Invoke(t.Context(), s.call, onDown(steady(time.Second)), WithPushback()); err != nil {
				t.Fatal(err)
			}
			p := s.began[1]
			if p < 10*time.Second || p > 12*time.Second {
				t.Fatalf("the pause is %v", p)
			}
			spread[p] = true
		}
		if len(spread) < 40 {
			t.Errorf("50 clients came back at %d different times: in lockstep", len(spread))
		}
		// A longer backoff holds.
		s := failing(retryIn(time.Second), nil)
		_ = Invoke(t.Context(), s.call, onDown(steady(time.Minute)), WithPushback())
		wantBegan(t, s, 0, time.Minute)
		// The trailer takes precedence.
		s = failing(retryIn(10*time.Second), nil)
		_ = Invoke(t.Context(), pushing(s, []string{"250"}), onDown(steady(time.Minute)), WithPushback())
		wantBegan(t, s, 0, 250*time.Millisecond)
		// Without WithPushback nobody listens.
		for _, err := range []error{retryIn(time.Hour), retryIn(-time.Hour)} {
			s = failing(err, nil)
			_ = Invoke(t.Context(), pushing(s, []string{"-1"}), onDown(steady(time.Second)))
			wantBegan(t, s, 0, time.Second)
		}
		s = failing(retryIn(-time.Hour), nil)
		_ = Invoke(t.Context(), s.call, onDown(steady(time.Second)), WithPushback())
		wantBegan(t, s, 0, time.Second)
	})
}

func TestPushbackResetsWhatRetryersAreMadeOf(t *testing.T) {
	t.Parallel()
	growing := Backoff{Initial: time.Second, Max: time.Hour, Jitter: JitterNone}
	for name, r := range map[string]Retryer{
		"OnCodes":          OnUnavailable(growing),
		"OnErrorFunc":      OnErrorFunc(growing, func(error) bool { return true }),
		"OnAttemptTimeout": OnAttemptTimeout(OnUnavailable(growing)),
		"AnyOf":            AnyOf(OnUnavailable(growing)),
		"AtMost":           AtMost(9, OnUnavailable(growing)),
		"nested":           AtMost(9, AnyOf(nil, OnAttemptTimeout(OnUnavailable(growing)))),
	} {
		r.Retry(errDown)
		r.Retry(errDown)
		if pause, source := (advice{restart: true, exactly: 5}).apply(0, r); pause != 5 || source != PauseTrailer {
			t.Errorf("%s: %v from %v", name, pause, source)
		}
		if pause, _ := r.Retry(errDown); pause != time.Second {
			t.Errorf("%s: the pause after the restart is %v", name, pause)
		}
	}
	resetPauses(RetryerFunc(nil)) // knows no pauses
}

func TestPushbackOverARealConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &server{unary: func(ctx context.Context, n int, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			switch n {
			case 1, 2:
				trailer(ctx, pushbackTrailer, strconv.Itoa(n))
				return nil, errDown
			case 3:
				return named(n), nil
			}
			trailer(ctx, pushbackTrailer, "-1")
			return nil, errDown
		}}
		u := bindUnary(serve(t, s), onDown(steady(time.Hour)), WithPushback())
		resp, err := u.Call(t.Context(), &testpb.SimpleRequest{})
		if err != nil || resp.GetUsername() != "3" {
			t.Fatalf("%v, %v", resp, err)
		}
		if want := []time.Duration{0, time.Millisecond, 3 * time.Millisecond}; !slices.Equal(s.times(), want) {
			t.Errorf("attempts at %v, want %v", s.times(), want)
		}
		if want := []string{"-", "1", "2"}; !slices.Equal(s.previous(), want) {
			t.Errorf("attempt headers %q, want %q", s.previous(), want)
		}
		// The caller's own trailer target is served too.
		var md metadata.MD
		_, err = u.Call(t.Context(), &testpb.SimpleRequest{}, WithGRPCOptions(grpc.Trailer(&md)))
		stopped(t, err, ReasonPushback)
		if !slices.Equal(md.Get(pushbackTrailer), []string{"-1"}) {
			t.Errorf("the caller's trailer is %v", md)
		}
	})
}

// The place of a trailer is used again.
func TestATrailerIsThatOfItsOwnCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		push := true
		u := NewUnary(func(_ context.Context, in *ping, opts ...grpc.CallOption) (*ping, error) {
			for _, opt := range opts {
				if o, ok := opt.(grpc.TrailerCallOption); ok && push {
					*o.TrailerAddr = metadata.Pairs(pushbackTrailer, "-1")
				}
			}
			return in, errDown
		}, onDown(steady(1)), WithPushback(), WithMaxAttempts(2))
		_, err := u.Call(t.Context(), nil)
		stopped(t, err, ReasonPushback)
		push = false
		_, err = u.Call(t.Context(), nil)
		stopped(t, err, ReasonAttempts)
	})
}

// A call may open a stream that outlives it and whose trailer comes later.
// Under -race, nothing looks at the trailer of such a call.
func TestTheTrailerOfAStreamThatWasOpenedIsLeftAlone(t *testing.T) {
	t.Parallel()
	for range 20 {
		done := make(chan struct{})
		err := Invoke(t.Context(), func(_ context.Context, cs CallSettings) error {
			for _, opt := range cs.GRPC {
				if o, ok := opt.(grpc.TrailerCallOption); ok {
					go func() {
						defer close(done)
						*o.TrailerAddr = metadata.Pairs("stream", "ended")
					}()
				}
			}
			return nil
		}, WithPushback())
		if err != nil {
			t.Fatal(err)
		}
		<-done
	}
}
