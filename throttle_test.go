package reprise

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The vectors follow from the text of A6: the count starts at maxTokens, a
// failure takes one, a success adds tokenRatio, bounded by 0 and maxTokens;
// retries go out while the count is above maxTokens/2.
func TestThrottleVectors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		max, ratio float64
		outcomes   string // f: a failure, s: a success
		tokens     float64
		admits     bool
	}{
		{"full", 10, 0.1, "", 10, true},
		{"four failures of the example", 10, 0.1, "ffff", 6, true},
		{"at half it is shut", 10, 0.1, "fffff", 5, false},
		{"a success opens it by a tenth", 10, 0.1, "fffffs", 5.1, true},
		{"a failure after that shuts it", 10, 0.1, "fffffsf", 4.1, false},
		{"nine successes are not enough", 10, 0.1, "ffffff" + strings.Repeat("s", 9), 4.9, false},
		{"ten bring it to half", 10, 0.1, "ffffff" + strings.Repeat("s", 10), 5, false},
		{"eleven open it", 10, 0.1, "ffffff" + strings.Repeat("s", 11), 5.1, true},
		{"never below zero", 3, 0.1, "ffffffff", 0, false},
		{"never above the maximum", 3, 2, "fssss", 3, true},
		{"odd maximum, above half", 3, 0.1, "f", 2, true},
		{"odd maximum, below half", 3, 0.1, "ff", 1, false},
		{"one token", 1, 0.5, "", 1, true},
		{"one token spent", 1, 0.5, "f", 0, false},
		{"one token, at half", 1, 0.5, "fs", 0.5, false},
		{"one token, refilled", 1, 0.5, "fss", 1, true},
		{"three decimals count", 10, 0.001, "fffffs", 5.001, true},
		{"a fourth is cut off", 10, 0.0019, "fffffs", 5.001, true},
		{"0.57 is 570 thousandths", 10, 0.57, "fs", 9.57, true},
		{"decimals of the maximum", 1.5, 0.1, "f", 0.5, false},
		{"A6's greatest", 1000, 1, "", 1000, true},
		{"above it", 1001, 1, "", 1000, true},
		{"defaults for nonsense", -1, -1, "fs", 9.1, true},
		{"defaults for zero", 0, 0, "fs", 9.1, true},
		{"defaults for NaN", math.NaN(), math.NaN(), "fs", 9.1, true},
		{"a ratio that would be cut to zero", 10, 0.0004, "fs", 9.1, true},
		{"infinite", math.Inf(1), math.Inf(1), "ffs", 1000, true},
	} {
		throttle := NewThrottle(test.max, test.ratio)
		for _, o := range test.outcomes {
			throttle.Done(o == 'f')
		}
		if got := throttle.Tokens(); math.Abs(got-test.tokens) > 1e-9 {
			t.Errorf("%s: %v tokens, want %v", test.name, got, test.tokens)
		}
		if got := throttle.Admit(2); got != test.admits {
			t.Errorf("%s: Admit(2) = %v", test.name, got)
		}
		if !throttle.Admit(1) {
			t.Errorf("%s: a first attempt was refused", test.name)
		}
	}
}

func TestZeroThrottleIsTheExampleOfA6(t *testing.T) {
	t.Parallel()
	var throttle Throttle
	for range 5 {
		if !throttle.Admit(2) {
			t.Error("shut above half")
		}
		throttle.Done(true)
	}
	if throttle.Admit(2) || throttle.Tokens() != 5 {
		t.Errorf("open at %v tokens", throttle.Tokens())
	}
}

func TestThrottleIsExactUnderConcurrentUse(t *testing.T) {
	t.Parallel()
	throttle := NewThrottle(1000, 0.001)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				throttle.Done(true)
				throttle.Admit(2)
			}
			for range 1000 {
				throttle.Done(false)
			}
		})
	}
	wg.Wait()
	// 8 × 50 taken and 8 × 1000 thousandths given back.
	if got := throttle.Tokens(); got != 1000-400+8 {
		t.Errorf("%v tokens, want 608", got)
	}
}

func TestThrottleInACall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		throttle := NewThrottle(4, 0.5)
		opts := []CallOption{onDown(steady(time.Second)), WithThrottle(throttle), WithMaxAttempts(10)}

		// 4 → 3 (retry) → 2: at half, no retry and no pause.
		s, begin := failing(errDown), time.Now()
		err := Invoke(t.Context(), s.call, opts...)
		e := stopped(t, err, ReasonThrottled)
		wantBegan(t, s, 0, time.Second)
		wantElapsed(t, begin, time.Second)
		wantCode(t, err, codes.Unavailable)
		if !errors.Is(err, ErrThrottled) || !errors.Is(err, errDown) || e.Made != 2 {
			t.Errorf("got %v", err)
		}

		// An error that is not retried costs nothing.
		if err := Invoke(t.Context(), failing(errMissing).call, opts...); err != errMissing { //nolint:errorlint // the very error is promised
			t.Error(err)
		}
		if throttle.Tokens() != 2 {
			t.Errorf("%v tokens", throttle.Tokens())
		}
		// Successes fill it.
		for range 2 {
			if err := Invoke(t.Context(), failing(nil).call, opts...); err != nil {
				t.Error(err)
			}
		}
		if throttle.Tokens() != 3 {
			t.Errorf("%v tokens", throttle.Tokens())
		}
	})
}

// As in grpc-go, but for what the caller's own cancellation does.
func TestAFailureCountsThoughTheCallIsOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		canceled, late := status.Error(codes.Canceled, ""), status.Error(codes.DeadlineExceeded, "")
		anything := WithRetry(func() Retryer { return OnErrorFunc(steady(1), func(error) bool { return true }) })
		for _, test := range []struct {
			name   string
			cancel bool // the caller cancels during the attempt, which otherwise lasts to the deadline
			err    error
			pushed bool
			opt    CallOption
			reason Reason
			tokens float64
		}{
			{"an answer, cancelled", true, errDown, false, onDown(steady(1)), ReasonCanceled, 9},
			{"an answer, late", false, errDown, false, onDown(steady(1)), ReasonDeadline, 9},
			{"the deadline, to be retried", false, late, false, anything, ReasonDeadline, 9},
			{"the deadline as a context error", false, context.DeadlineExceeded, false, anything, ReasonDeadline, 9},
			{"the deadline, not to be retried", false, late, false, onDown(steady(1)), ReasonDeadline, 10},
			{"the cancellation, to be retried", true, canceled, false, anything, ReasonCanceled, 10},
			{"the cancellation as a context error", true, context.Canceled, false, anything, ReasonCanceled, 10},
			{"the cancellation, not to be retried", true, canceled, false, onDown(steady(1)), ReasonCanceled, 10},
			{"a no, late", false, errMissing, true, onDown(steady(1)), 0, 9},
			{"a no to the deadline, late", false, late, true, onDown(steady(1)), ReasonDeadline, 9},
			{"a no without a Retryer", false, errMissing, true, WithRetry(nil), 0, 9},
		} {
			throttle := NewThrottle(10, 0.1)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := Invoke(ctx, func(ctx context.Context, cs CallSettings) error {
				if test.cancel {
					cancel()
				}
				<-ctx.Done()
				if test.pushed {
					return pushing(failing(test.err), []string{"-1"})(ctx, cs)
				}
				return test.err
			}, test.opt, WithThrottle(throttle), WithPushback())
			cancel()
			if reasonOf(err) != test.reason || throttle.Tokens() != test.tokens {
				t.Errorf("%s: %v tokens, want %v: %v", test.name, throttle.Tokens(), test.tokens, err)
			}
		}
	})
}

// grpc-go asks: is the code retryable, then the throttle, then the attempts.
func TestThrottleIsAskedBeforeTheAttempts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		throttle := NewThrottle(2, 0.5)
		opts := []CallOption{onDown(steady(1)), WithThrottle(throttle), WithMaxAttempts(1)}
		stopped(t, Invoke(t.Context(), failing(errDown).call, opts...), ReasonThrottled)
		throttle = NewThrottle(10, 0.5)
		stopped(t, Invoke(t.Context(), failing(errDown).call, append(opts, WithThrottle(throttle))...), ReasonAttempts)
		if throttle.Tokens() != 9 {
			t.Errorf("the failure of the last attempt was not counted: %v tokens", throttle.Tokens())
		}
	})
}

func TestThrottleWithoutARetryerCountsUnavailable(t *testing.T) {
	t.Parallel()
	throttle := NewThrottle(10, 0.5)
	for _, test := range []struct {
		err    error
		tokens float64
	}{{errDown, 9}, {errMissing, 9}, {errors.New("plain"), 9}, {nil, 9.5}, {errDown, 8.5}} {
		_ = Invoke(t.Context(), failing(test.err).call, WithThrottle(throttle))
		if throttle.Tokens() != test.tokens {
			t.Errorf("after %v: %v tokens, want %v", test.err, throttle.Tokens(), test.tokens)
		}
	}
}

func TestRefusedFirstAttempt(t *testing.T) {
	t.Parallel()
	s := failing(nil)
	err := Invoke(t.Context(), s.call, WithThrottle(refuser{}), onDown(Backoff{}))
	e := stopped(t, err, ReasonThrottled)
	if len(s.began) != 0 || e.Made != 0 || e.Err != nil || !errors.Is(err, ErrThrottled) {
		t.Errorf("got %+v after %d attempts", e, len(s.began))
	}
	wantCode(t, err, codes.Unavailable)
	_, err = NewUnary(echo, WithThrottle(refuser{})).Call(t.Context(), &ping{})
	stopped(t, err, ReasonThrottled)
}

func TestANilThrottleIsNone(t *testing.T) {
	t.Parallel()
	for _, throttle := range []Throttler{nil, (*Throttle)(nil), (*AdaptiveThrottle)(nil)} {
		s := failing(errDown, nil)
		if err := Invoke(t.Context(), s.call, onDown(steady(1)), WithThrottle(NewThrottle(1, 1)), WithThrottle(throttle)); err != nil || len(s.began) != 2 {
			t.Errorf("%T: %v after %d attempts", throttle, err, len(s.began))
		}
	}
}
