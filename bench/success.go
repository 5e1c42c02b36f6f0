package main

import (
	"context"
	"time"

	"github.com/googleapis/gax-go/v2"
	"github.com/reprise-go/reprise"
	"google.golang.org/grpc"
)

// policy is the retry policy that every contender of Reprise has.
func policy(pause time.Duration) reprise.CallOption {
	return reprise.WithRetry(func() reprise.Retryer { return newRetryer(pause) })
}

// newRetryer is what a call makes at its first failure. It is not inlined, so
// that a Retryer that is used alone lies on the heap too.
//
//go:noinline
func newRetryer(pause time.Duration) reprise.Retryer {
	return reprise.OnCodes(retried, reprise.Backoff{Initial: pause, Max: pause})
}

const (
	unary     = "reprise Unary.Call"
	invoke    = "reprise Invoke"
	do        = "reprise Do"
	gaxInvoke = "gax.Invoke"
	ggmUnary  = "go-grpc-middleware retry"
)

func successGroup() group {
	ctx := context.Background()
	peers := []contender{gaxContender(ctx, answer), ggmContender(ctx)}
	for _, p := range genericPeers(ctx, 1, func() error { _, err := answer(ctx, req); return err }) {
		peers = append(peers, contender{p.name, repeat(p.call)})
	}
	return group{
		name:       "A call that succeeds at once, with a retry policy",
		contenders: append(repriseContenders(ctx, policy(1)), peers...),
		promises: []promise{
			{text: "Unary.Call at least 5 times faster than gax.Invoke", what: fasterBy, of: unary, to: gaxInvoke, limit: 5},
			{text: "Invoke at least 2.5 times faster than gax.Invoke", what: fasterBy, of: invoke, to: gaxInvoke, limit: 2.5},
			{text: "Unary.Call not slower than go-grpc-middleware", what: slowerBy, of: unary, to: ggmUnary, limit: 1, tolerance: 0.02},
			{text: "Unary.Call allocates nothing", what: allocsAtMost, of: unary},
			{text: "Invoke allocates nothing", what: allocsAtMost, of: invoke},
			{text: "Do allocates nothing", what: allocsAtMost, of: do},
		},
	}
}

func loadedSuccessGroup() group {
	ctx := context.Background()
	return group{
		name: "The same with retry, throttle, attempt limit and gRPC options",
		contenders: append(repriseContenders(ctx, policy(1),
			reprise.WithThrottle(reprise.NewThrottle(10, 0.1)),
			reprise.WithMaxAttempts(attempts),
			reprise.WithGRPCOptions(grpc.WaitForReady(true)),
		), gaxContender(ctx, answer, gax.WithGRPCOptions(grpc.WaitForReady(true)))),
		promises: []promise{
			{text: "Unary.Call allocates nothing", what: allocsAtMost, of: unary},
			{text: "Invoke allocates nothing", what: allocsAtMost, of: invoke},
			{text: "Do allocates nothing", what: allocsAtMost, of: do},
		},
	}
}

const withTimeout = "context.WithTimeout alone"

func timeoutGroup() group {
	ctx := context.Background()
	return group{
		name: "A call that succeeds at once, with WithTimeout",
		long: true, // 30 ns of some 500 that the timer takes
		contenders: append(repriseContenders(ctx, policy(1), reprise.WithTimeout(time.Minute)),
			contender{withTimeout, repeat(func() error {
				ctx, cancel := context.WithTimeout(ctx, time.Minute)
				defer cancel()
				_, err := answer(ctx, req)
				return err
			})},
			gaxContender(ctx, answer, gax.WithTimeout(time.Minute)),
		),
		promises: []promise{
			{text: "Unary.Call at most 30 ns over context.WithTimeout", what: nanosMore, of: unary, to: withTimeout, limit: 30},
			{text: "Invoke at most 30 ns over context.WithTimeout", what: nanosMore, of: invoke, to: withTimeout, limit: 30},
			{text: "Unary.Call allocates no more than context.WithTimeout", what: allocsMore, of: unary, to: withTimeout},
			{text: "Invoke allocates no more than context.WithTimeout", what: allocsMore, of: invoke, to: withTimeout},
		},
	}
}

// repriseContenders are the three ways to make a call, with the same options.
func repriseContenders(ctx context.Context, opts ...reprise.CallOption) []contender {
	bound := reprise.NewUnary(answer, opts...)
	call := func(ctx context.Context, cs reprise.CallSettings) error {
		_, err := answer(ctx, req, cs.GRPC...)
		return err
	}
	fn := func(ctx context.Context) (*response, error) { return answer(ctx, req) }
	return []contender{
		{unary, repeat(func() error { _, err := bound.Call(ctx, req); return err })},
		{invoke, repeat(func() error { return reprise.Invoke(ctx, call, opts...) })},
		{do, repeat(func() error { _, err := reprise.Do(ctx, fn, opts...); return err })},
	}
}

type stub func(context.Context, *request, ...grpc.CallOption) (*response, error)

func gaxContender(ctx context.Context, s stub, opts ...gax.CallOption) contender {
	opts = append(gaxOptions(1), opts...)
	call := func(ctx context.Context, cs gax.CallSettings) error {
		_, err := s(ctx, req, cs.GRPC...)
		return err
	}
	return contender{gaxInvoke, repeat(func() error { return gax.Invoke(ctx, call, opts...) })}
}

func ggmContender(ctx context.Context) contender {
	interceptor := ggmInterceptor(1)
	invoker := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
		_, err := answer(ctx, req, opts...)
		return err
	}
	return contender{ggmUnary, repeat(func() error {
		return interceptor(ctx, "/service/Method", req, resp, nil, invoker)
	})}
}
