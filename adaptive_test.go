package reprise

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestRejectionFollowsTheFormula(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		k                 float64
		requests, accepts int
		want              float64
	}{
		{2, 0, 0, 0},
		{2, 1, 0, 1.0 / 2},
		{2, 9, 0, 9.0 / 10},
		{2, 99, 0, 99.0 / 100},
		{2, 100, 50, 0},
		{2, 100, 49, 2.0 / 101},
		{2, 100, 100, 0},
		{1, 100, 50, 50.0 / 101},
		{1.5, 100, 50, 25.0 / 101},
		{0, 100, 40, 20.0 / 101},
		{0.5, 100, 40, 20.0 / 101},
		{math.NaN(), 100, 40, 20.0 / 101},
	} {
		throttle := NewAdaptiveThrottle(AdaptiveConfig{K: test.k})
		for range test.requests {
			throttle.Admit(1)
		}
		for range test.accepts {
			throttle.Done(false)
		}
		if got := throttle.Rejection(); math.Abs(got-test.want) > 1e-12 {
			t.Errorf("K=%v, %d requests, %d accepts: %v, want %v", test.k, test.requests, test.accepts, got, test.want)
		}
	}
}

func TestAdaptiveThrottleForgetsWhatLeftTheWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		throttle := NewAdaptiveThrottle(AdaptiveConfig{Window: 32 * time.Second})
		for range 10 { // one bucket is a second
			throttle.Admit(1)
			throttle.Done(true)
			time.Sleep(time.Second)
		}
		if got, want := throttle.Rejection(), 10.0/11; got != want {
			t.Errorf("%v, want %v", got, want)
		}
		time.Sleep(26 * time.Second) // the first five have left
		if got, want := throttle.Rejection(), 5.0/6; got != want {
			t.Errorf("%v, want %v", got, want)
		}
		time.Sleep(6 * time.Second)
		if got := throttle.Rejection(); got != 0 {
			t.Errorf("%v after all have left", got)
		}
		throttle.Admit(1)
		time.Sleep(time.Hour)
		if got := throttle.Rejection(); got != 0 {
			t.Errorf("%v after an hour", got)
		}
	})
}

func TestAdaptiveThrottleInACall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		u := 0.5
		throttle := NewAdaptiveThrottle(AdaptiveConfig{RefusalPause: time.Second, Rand: func() float64 { return u }})
		opts := []CallOption{onDown(steady(time.Minute)), WithThrottle(throttle)}
		// An error that is not retried is an answer.
		for range 10 {
			if err := Invoke(t.Context(), failing(errMissing).call, opts...); err != errMissing { //nolint:errorlint // the very error is promised
				t.Fatal(err)
			}
		}
		if throttle.Rejection() != 0 {
			t.Fatal("answers count as refusals")
		}
		throttle = NewAdaptiveThrottle(AdaptiveConfig{RefusalPause: time.Second, Rand: func() float64 { return u }})
		opts[1] = WithThrottle(throttle)
		// The first is sent; p = 1/2 and the draw 1/2 let the second pass
		// too; at p = 2/3 the third is refused.
		s, begin := failing(errDown), time.Now()
		err := Invoke(t.Context(), s.call, opts...)
		e := stopped(t, err, ReasonThrottled)
		if e.Made != 2 || !errors.Is(err, errDown) {
			t.Errorf("got %v", err)
		}
		wantElapsed(t, begin, time.Minute+time.Second) // with the pause of the refusal
		// First attempts are refused too, after the same pause, and are
		// told from a server's answer.
		begin = time.Now()
		err = Invoke(t.Context(), s.call, opts...)
		if e := stopped(t, err, ReasonThrottled); e.Made != 0 || !errors.Is(err, ErrThrottled) {
			t.Errorf("got %v", err)
		}
		wantElapsed(t, begin, time.Second)
		wantCode(t, err, codes.Unavailable)
		// The pause ends with the caller's patience.
		begin = time.Now()
		err = Invoke(t.Context(), s.call, append(opts, WithTimeout(time.Second/2))...)
		wantElapsed(t, begin, time.Second/2)
		stopped(t, err, ReasonDeadline)
	})
}

func TestADeclinedRetryIsAnAcceptedRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		throttle := NewAdaptiveThrottle(AdaptiveConfig{Rand: highest})
		err := Invoke(t.Context(), failing(errDown, errMissing).call, onDown(steady(1)), WithThrottle(throttle))
		if err != errMissing || throttle.total != (adaptiveBucket{requests: 2, accepts: 1}) { //nolint:errorlint // the very error is promised
			t.Errorf("%v, counted %+v", err, throttle.total)
		}
	})
}

// Every call here makes one attempt, of which the server accepts none, and wants
// no other, since a limit forbids it.
func TestAttemptsThatALimitForbidsAreNoRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for name, opt := range map[string]CallOption{
			"attempts": WithMaxAttempts(1),
			"elapsed":  WithMaxElapsed(time.Second),
			"deadline": WithTimeout(time.Second),
			"pushback": Options(WithMaxAttempts(1), WithPushback()),
		} {
			for verdict, rand := range map[string]func() float64{"admitted": highest, "refused": lowest} {
				throttle := NewAdaptiveThrottle(AdaptiveConfig{Rand: rand, RefusalPause: -1})
				err := Invoke(t.Context(), pushing(failing(errDown), []string{"1"}), onDown(steady(time.Second)), WithThrottle(throttle), opt)
				if (reasonOf(err) == ReasonThrottled) != (verdict == "refused") || throttle.total != (adaptiveBucket{requests: 1}) {
					t.Errorf("%s, %s: counted %+v: %v", name, verdict, throttle.total, err)
				}
			}
		}
		// The pause, in which the caller loses patience, outlasts a bucket.
		throttle := NewAdaptiveThrottle(AdaptiveConfig{Rand: highest})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(30*time.Second, cancel)
		stopped(t, Invoke(ctx, failing(errDown).call, onDown(steady(time.Minute)), WithThrottle(throttle)), ReasonCanceled)
		if throttle.total != (adaptiveBucket{requests: 1}) {
			t.Errorf("given up in a pause: counted %+v", throttle.total)
		}
		// Without a limit in the way, the refused one counts.
		throttle = NewAdaptiveThrottle(AdaptiveConfig{Rand: lowest, RefusalPause: -1})
		stopped(t, Invoke(t.Context(), failing(errDown).call, onDown(steady(time.Minute)), WithThrottle(throttle)), ReasonThrottled)
		if throttle.total != (adaptiveBucket{requests: 2}) {
			t.Errorf("refused: counted %+v", throttle.total)
		}
	})
}

func TestARequestIsTakenBackWhereItWasCounted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		throttle := NewAdaptiveThrottle(AdaptiveConfig{Window: 32 * time.Second, Rand: highest})
		throttle.Unsent(time.Now()) // of which nothing is known
		asked := time.Now()
		for range 2 { // one bucket is a second
			throttle.Admit(1)
			time.Sleep(time.Second)
		}
		throttle.Unsent(asked)
		if throttle.buckets[0].requests != 0 || throttle.buckets[1].requests != 1 || throttle.total.requests != 1 {
			t.Errorf("counted %+v, in all %+v", throttle.buckets[:2], throttle.total)
		}
		// The clock was read just before the request was counted in the next bucket.
		throttle.Unsent(asked)
		if throttle.buckets[1].requests != 0 || throttle.total.requests != 0 {
			t.Errorf("counted %+v, in all %+v", throttle.buckets[:2], throttle.total)
		}
		// The clock was read before the throttle was first asked at all.
		fresh := NewAdaptiveThrottle(AdaptiveConfig{Window: 32 * time.Second})
		fresh.Admit(1)
		fresh.Unsent(asked)
		if fresh.total.requests != 0 {
			t.Errorf("counted %+v", fresh.total)
		}
		// What has left the window is forgotten, with all that went with it.
		asked = time.Now()
		throttle.Admit(1)
		time.Sleep(32 * time.Second)
		throttle.Admit(1) // in the place of the other
		throttle.Unsent(asked)
		throttle.Unsent(asked.Add(-time.Hour))
		if throttle.total.requests != 1 {
			t.Errorf("counted %+v", throttle.total)
		}
	})
}

func TestNoAnswerIsNotAccepted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hang := func(ctx context.Context, _ CallSettings) error {
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		}
		for name, opts := range map[string][]CallOption{
			"deadline":                        {onDown(steady(1)), WithTimeout(time.Second)},
			"deadline without a Retryer":      {WithTimeout(time.Second)},
			"attempt timeout":                 {onDown(steady(1)), WithAttemptTimeout(time.Second)},
			"attempt timeout without Retryer": {WithAttemptTimeout(time.Second)},
		} {
			throttle := NewAdaptiveThrottle(AdaptiveConfig{})
			err := Invoke(t.Context(), hang, append(opts, WithThrottle(throttle))...)
			if err == nil || throttle.total != (adaptiveBucket{requests: 1}) {
				t.Errorf("%s: counted %+v: %v", name, throttle.total, err)
			}
		}
		// A server's own DEADLINE_EXCEEDED is an answer.
		throttle := NewAdaptiveThrottle(AdaptiveConfig{})
		_ = Invoke(t.Context(), failing(status.Error(codes.DeadlineExceeded, "")).call, onDown(steady(1)), WithThrottle(throttle))
		if throttle.total != (adaptiveBucket{requests: 1, accepts: 1}) {
			t.Errorf("an answer: counted %+v", throttle.total)
		}
	})
}

func TestACallerThatLoopsOverRefusedCallsDoesNotSpin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		throttle := NewAdaptiveThrottle(AdaptiveConfig{})
		s, begin, calls := failing(errDown), time.Now(), 0
		for time.Since(begin) < 10*time.Second {
			_ = Invoke(t.Context(), s.call, onDown(steady(time.Millisecond)), WithThrottle(throttle))
			calls++
		}
		// A refused call takes 5 to 15 ms.
		if calls > 2100 || len(s.began) > calls/4 {
			t.Errorf("%d calls and %d attempts in 10 s", calls, len(s.began))
		}
	})
}

func TestRefusalPauses(t *testing.T) {
	t.Parallel()
	for rand, want := range map[float64]time.Duration{0: 500 * time.Millisecond, 0.5: time.Second} {
		throttle := NewAdaptiveThrottle(AdaptiveConfig{RefusalPause: time.Second, Rand: func() float64 { return rand }})
		if p := throttle.RefusalPause(); p != want {
			t.Errorf("drawn by %v: a pause of %v, want %v", rand, p, want)
		}
	}
	for _, test := range []struct{ given, low, high time.Duration }{
		{0, 5 * time.Millisecond, 15 * time.Millisecond},
		{-1, 0, 0},
		{time.Second, time.Second / 2, 3 * time.Second / 2},
		{math.MaxInt64, math.MaxInt64 / 4, math.MaxInt64},
	} {
		throttle := NewAdaptiveThrottle(AdaptiveConfig{RefusalPause: test.given})
		for range 100 {
			if p := throttle.RefusalPause(); p < test.low || p > test.high {
				t.Fatalf("%v: a pause of %v", test.given, p)
			}
		}
	}
}

// A server that takes 100 requests a second is asked for 1000: the throttle
// lets through about K times what it takes, and opens when it recovers.
func TestAdaptiveThrottleFindsTheServersCapacity(t *testing.T) {
	bubble(t, func(t *testing.T) {
		throttle := NewAdaptiveThrottle(AdaptiveConfig{Window: 10 * time.Second, RefusalPause: -1, Rand: rand.New(rand.NewPCG(1, 1)).Float64})
		second := func(capacity int) (sent int) {
			accepted := 0
			for range 1000 {
				if !throttle.Admit(1) {
					continue
				}
				sent++
				ok := accepted < capacity
				if ok {
					accepted++
				}
				throttle.Done(!ok)
			}
			time.Sleep(time.Second)
			return sent
		}
		var sent int
		for range 30 {
			sent = second(100)
		}
		if sent < 150 || sent > 300 {
			t.Errorf("under overload %d requests a second are sent, want about 200", sent)
		}
		for range 30 {
			sent = second(1000)
		}
		if sent != 1000 {
			t.Errorf("after the recovery %d requests a second are sent", sent)
		}
	})
}

func TestAdaptiveThrottleIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	var throttle AdaptiveThrottle
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				throttle.Admit(1)
				throttle.Done(false)
				throttle.RefusalPause()
			}
		})
	}
	wg.Wait()
	if throttle.total.requests != 4000 || throttle.total.accepts != 4000 {
		t.Errorf("counted %+v", throttle.total)
	}
}

func TestAdaptiveConfigMayHoldAnyNumber(t *testing.T) {
	t.Parallel()
	throttle := NewAdaptiveThrottle(AdaptiveConfig{K: math.Inf(1)})
	if throttle.Admit(1); throttle.Rejection() != 0.5 {
		t.Errorf("an infinite K rejects %v, want 1/2 as the default", throttle.Rejection())
	}
	for _, u := range []float64{math.NaN(), math.Inf(-1), math.Inf(1), -1, 2} {
		throttle := NewAdaptiveThrottle(AdaptiveConfig{Rand: func() float64 { return u }})
		if p := throttle.RefusalPause(); p < 5*time.Millisecond || p > 15*time.Millisecond {
			t.Errorf("the number %v gives a pause of %v", u, p)
		}
	}
}
