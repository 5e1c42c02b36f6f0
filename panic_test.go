package reprise

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// hedging binds attempts, told apart by their number, to a call that starts
// one each second.
func hedging(attempts int, attempt func(ctx context.Context, n int) error, opts ...CallOption) *Unary[ping, ping] {
	policy := HedgePolicy{MaxAttempts: attempts, Delay: time.Second, NonFatalCodes: []codes.Code{codes.Unavailable}}
	return NewUnary(func(ctx context.Context, _ *ping, _ ...grpc.CallOption) (*ping, error) {
		n := AttemptFromContext(ctx)
		return &ping{n}, attempt(ctx, n)
	}, append(opts, WithHedge(policy))...)
}

// caught returns what f panicked with.
func caught(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

func explode(v any) { panic(v) }

func TestAPanicOfAHedgedAttemptReachesTheCaller(t *testing.T) {
	cause := errors.New("cause")
	for name, test := range map[string]struct {
		attempt func(ctx context.Context, n int) error
		took    time.Duration
	}{
		"the only one": {func(context.Context, int) error { explode(cause); return nil }, 0},
		"a later one": {func(ctx context.Context, n int) error {
			if n == 3 {
				explode(cause)
			}
			return Sleep(ctx, time.Hour)
		}, 2 * time.Second},
		"a loser, on its way out": {func(ctx context.Context, n int) error {
			if n == 2 {
				return nil
			}
			_ = Sleep(ctx, time.Hour)
			explode(cause)
			return nil
		}, time.Second},
		"one that the deadline ends": {func(ctx context.Context, _ int) error {
			_ = Sleep(ctx, time.Hour)
			explode(cause)
			return nil
		}, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var running atomic.Int32
				u := hedging(3, func(ctx context.Context, n int) error {
					running.Add(1)
					defer running.Add(-1)
					return test.attempt(ctx, n)
				}, WithTimeout(5*time.Second), WithAttemptTimeout(time.Hour))
				begin := time.Now()
				v := caught(func() { _, _ = u.Call(t.Context(), nil) })
				e, ok := v.(*PanicError)
				if !ok || e.Value != cause || !errors.Is(e, cause) { //nolint:errorlint // the very value
					t.Fatalf("the caller caught %v", v)
				}
				if !strings.Contains(string(e.Stack), "reprise.explode") || !strings.Contains(e.Error(), "panicked: cause\n\n"+string(e.Stack)) {
					t.Errorf("the stack does not show where: %v", e)
				}
				wantElapsed(t, begin, test.took)
				if n := running.Load(); n != 0 {
					t.Errorf("%d attempts are still running", n)
				}
			})
		})
	}
}

func TestThePanicOfAHedgedCallInsideAnotherKeepsItsStack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		inner := hedging(1, func(context.Context, int) error { explode("no error"); return nil })
		outer := hedging(1, func(ctx context.Context, _ int) error { _, err := inner.Call(ctx, nil); return err })
		e, ok := caught(func() { _, _ = outer.Call(t.Context(), nil) }).(*PanicError)
		if !ok || e.Value != "no error" || errors.Unwrap(e) != nil || !strings.Contains(string(e.Stack), "reprise.explode") {
			t.Errorf("the caller caught %v", e)
		}
	})
}

func TestGoexitOfAHedgedAttemptEndsTheCaller(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, leaver := range []int{1, 2} { // the second is a loser if the first wins
			u := hedging(2, func(ctx context.Context, n int) error {
				if n != leaver {
					return Sleep(ctx, 2*time.Second)
				}
				_ = Sleep(ctx, 3*time.Second)
				runtime.Goexit()
				return nil
			})
			gone, returned := make(chan any), false
			go func() {
				defer func() { gone <- recover() }()
				_, _ = u.Call(t.Context(), nil)
				returned = true
			}()
			if v := <-gone; v != nil || returned {
				t.Errorf("attempt %d: returned is %v, panicked with %v", leaver, returned, v)
			}
		}
	})
}

// explodingThrottle panics when it is asked for a hedge.
type explodingThrottle struct{}

func (explodingThrottle) Admit(attempt int) bool {
	if attempt > 1 {
		panic("throttle")
	}
	return true
}
func (explodingThrottle) Done(bool) {}

func TestAPanicBesideHedgedAttemptsEndsThem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended := make(chan error, 1)
		u := hedging(2, func(ctx context.Context, _ int) error {
			ended <- Sleep(ctx, time.Hour)
			return nil
		}, WithThrottle(explodingThrottle{}))
		begin := time.Now()
		if v := caught(func() { _, _ = u.Call(t.Context(), nil) }); v != "throttle" {
			t.Errorf("the caller caught %v", v)
		}
		if err := <-ended; err == nil {
			t.Error("the attempt went on")
		}
		wantElapsed(t, begin, time.Second)
	})
}

func TestObserversHearNoEndOfAPanic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := new(diary)
		u := hedging(2, func(ctx context.Context, n int) error {
			if n == 2 {
				explode("attempt")
			}
			return Sleep(ctx, time.Hour)
		}, WithObserver(d))
		_ = caught(func() { _, _ = u.Call(t.Context(), nil) })
		d.want(t, "attempt 1 took 1s: true")
	})
}
