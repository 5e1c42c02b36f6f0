package reprise

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type ping struct{ n int }

func echo(_ context.Context, in *ping, _ ...grpc.CallOption) (*ping, error) { return in, nil }

func quickRetry() Retryer {
	return OnCodes([]codes.Code{codes.Unavailable}, Backoff{Initial: 1, Max: 1})
}

func BenchmarkUnarySuccess(b *testing.B) {
	u := NewUnary(echo, WithRetry(quickRetry), WithThrottle(NewThrottle(10, 0.1)), WithMaxAttempts(3))
	ctx, req := context.Background(), &ping{}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := u.Call(ctx, req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnaryBareSuccess(b *testing.B) {
	u := NewUnary(echo)
	ctx, req := context.Background(), &ping{}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := u.Call(ctx, req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInvokeSuccess(b *testing.B) {
	ctx, req := context.Background(), &ping{}
	retry := WithRetry(quickRetry)
	b.ReportAllocs()
	for b.Loop() {
		var resp *ping
		if err := Invoke(ctx, func(ctx context.Context, cs CallSettings) (err error) {
			resp, err = echo(ctx, req, cs.GRPC...)
			return err
		}, retry); err != nil {
			b.Fatal(err)
		}
		_ = resp
	}
}

func BenchmarkInvokeTimeout(b *testing.B) {
	ctx := context.Background()
	opt := WithTimeout(time.Minute)
	b.ReportAllocs()
	for b.Loop() {
		_ = Invoke(ctx, func(context.Context, CallSettings) error { return nil }, opt)
	}
}

func BenchmarkContextWithTimeout(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, cancel := context.WithTimeout(context.Background(), time.Minute)
		cancel()
	}
}

func BenchmarkInvokeOneFailure(b *testing.B) {
	ctx := context.Background()
	failed := status.Error(codes.Unavailable, "down")
	opt := WithRetry(quickRetry)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		if err := Invoke(ctx, func(context.Context, CallSettings) error {
			if n++; n == 1 {
				return failed
			}
			return nil
		}, opt); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInvokeDeclined(b *testing.B) {
	ctx := context.Background()
	failed := status.Error(codes.NotFound, "none")
	opt := WithRetry(quickRetry)
	b.ReportAllocs()
	for b.Loop() {
		_ = Invoke(ctx, func(context.Context, CallSettings) error { return failed }, opt)
	}
}

func BenchmarkUnarySuccessTimeoutCtx(b *testing.B) {
	u := NewUnary(echo, WithRetry(quickRetry), WithThrottle(NewThrottle(10, 0.1)), WithMaxAttempts(3))
	ctx, req := context.Background(), &ping{}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, ping{}, 1), time.Hour)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := u.Call(ctx, req); err != nil {
			b.Fatal(err)
		}
	}
}
