package reprise

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// raceEnabled is set by a file that is built with -race, under which
// sync.Pool drops entries at random.
var raceEnabled bool

func TestSuccessAllocatesNothing(t *testing.T) {
	throttle, adaptive := NewThrottle(10, 0.1), NewAdaptiveThrottle(AdaptiveConfig{})
	options := map[string][]CallOption{
		"nothing":           nil,
		"retry":             {WithRetry(quickRetry)},
		"throttle":          {WithThrottle(throttle)},
		"adaptive throttle": {WithThrottle(adaptive)},
		"attempt limit":     {WithMaxAttempts(3)},
		"gRPC options":      {WithGRPCOptions(grpc.WaitForReady(true))},
		"max elapsed":       {WithMaxElapsed(time.Minute)},
		"all of them": {
			WithRetry(quickRetry), WithThrottle(throttle), WithMaxAttempts(3),
			WithGRPCOptions(grpc.WaitForReady(true)), WithGRPCOptions(), WithMaxElapsed(time.Minute),
		},
		"recommended, but for pushback": {Recommended(), rareOption(func(r *rareSettings) { r.pushback = false })},
	}
	ctx, req := context.Background(), &ping{}
	withDeadline, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	for name, opts := range options {
		unary := NewUnary(echo, opts...)
		for _, ctx := range []context.Context{ctx, withDeadline} {
			if n := testing.AllocsPerRun(100, func() { _, _ = unary.Call(ctx, req) }); n != 0 {
				t.Errorf("Unary.Call with %s: %v allocations", name, n)
			}
		}
	}
	retry, limit, limited := WithRetry(quickRetry), WithMaxAttempts(3), WithThrottle(throttle)
	grpcOpts := WithGRPCOptions(grpc.WaitForReady(true))
	if n := testing.AllocsPerRun(100, func() {
		var resp *ping
		err := Invoke(ctx, func(ctx context.Context, cs CallSettings) (err error) {
			resp, err = echo(ctx, req, cs.GRPC...)
			return err
		}, retry, limit, limited, grpcOpts)
		if err != nil || resp != req {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("Invoke: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := Do(ctx, func(context.Context) (int, error) { return 1, nil }, retry, limit, limited); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("Do: %v allocations", n)
	}
}

func TestPushbackAllocatesNothingOnSuccess(t *testing.T) {
	if raceEnabled {
		t.Log("not measured: under -race, sync.Pool drops entries")
		return
	}
	unary := NewUnary(echo, Recommended())
	if n := testing.AllocsPerRun(1000, func() { _, _ = unary.Call(context.Background(), nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestATimeoutCostsWhatContextWithTimeoutCosts(t *testing.T) {
	ctx := context.Background()
	base := testing.AllocsPerRun(100, func() {
		_, cancel := context.WithTimeout(ctx, time.Minute)
		cancel()
	})
	opt := WithTimeout(time.Minute)
	unary := NewUnary(echo, opt)
	if n := testing.AllocsPerRun(100, func() { _ = Invoke(ctx, func(context.Context, CallSettings) error { return nil }, opt) }); n > base {
		t.Errorf("Invoke: %v allocations, context.WithTimeout has %v", n, base)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = unary.Call(ctx, nil) }); n > base {
		t.Errorf("Unary.Call: %v allocations, context.WithTimeout has %v", n, base)
	}
}

func TestFailureAllocatesLittle(t *testing.T) {
	ctx := context.Background()
	retry := WithRetry(quickRetry)
	if n := testing.AllocsPerRun(100, func() {
		calls := 0
		if err := Invoke(ctx, func(context.Context, CallSettings) error {
			if calls++; calls == 1 {
				return errDown
			}
			return nil
		}, retry); err != nil {
			t.Error(err)
		}
	}); n > 2 {
		t.Errorf("one retry: %v allocations, want the Retryer and the attempt's context", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		_ = Invoke(ctx, func(context.Context, CallSettings) error { return errMissing }, retry)
	}); n > 1 {
		t.Errorf("a declined error: %v allocations, want the Retryer alone", n)
	}
}
