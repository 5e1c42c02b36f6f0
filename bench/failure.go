package main

import (
	"context"
	"time"

	"github.com/googleapis/gax-go/v2"
	"github.com/reprise-go/reprise"
	"google.golang.org/grpc"
)

// newFlaky returns a stub that fails every other call. Each contender has its
// own, so that all of them see the failure first.
func newFlaky() stub {
	f := new(flaky)
	return func(context.Context, *request, ...grpc.CallOption) (*response, error) {
		if err := f.call(); err != nil {
			return nil, err
		}
		return resp, nil
	}
}

func oneFailureGroup() group {
	ctx := context.Background()
	contenders := failing(ctx, 1, newFlaky, repeat)
	return group{
		name:       "One failure, a pause of 1 ns, then success",
		contenders: contenders,
		promises: []promise{
			{text: "Unary.Call at least 2 times faster than gax.Invoke", what: fasterBy, of: unary, to: gaxInvoke, limit: 2},
			{text: "Invoke at least 2 times faster than gax.Invoke", what: fasterBy, of: invoke, to: gaxInvoke, limit: 2},
			{text: "Unary.Call allocates at most twice", what: allocsAtMost, of: unary, limit: 2},
			{text: "Invoke allocates at most twice", what: allocsAtMost, of: invoke, limit: 2},
		},
	}
}

// timerGroup is oneFailureGroup with a pause that takes a timer, and a context
// that can be cancelled meanwhile.
func timerGroup() (group, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	return group{
		name:       "One failure, a pause of at most 1 µs, then success, cancellable",
		contenders: failing(ctx, time.Microsecond, newFlaky, repeat),
	}, cancel
}

const retryerAlone = "reprise OnCodes and Retry alone"

func refusedGroup() group {
	ctx := context.Background()
	contenders := failing(ctx, 1, func() stub { return refuse }, func(call func() error) func(int) error {
		return repeatFailing(errInvalid, call)
	})
	contenders = append(contenders, contender{retryerAlone, func(n int) error {
		for range n {
			r := newRetryer(1)
			if _, ok := r.Retry(errInvalid); ok {
				return errSome
			}
		}
		return nil
	}})
	return group{
		name:       "An error that is not retried",
		contenders: contenders,
		promises: []promise{
			{text: "Unary.Call at least 3 times faster than gax.Invoke", what: fasterBy, of: unary, to: gaxInvoke, limit: 3},
			{text: "Invoke at least 3 times faster than gax.Invoke", what: fasterBy, of: invoke, to: gaxInvoke, limit: 3},
			{text: "Unary.Call allocates nothing beyond its Retryer", what: allocsMore, of: unary, to: retryerAlone},
			{text: "Invoke allocates nothing beyond its Retryer", what: allocsMore, of: invoke, to: retryerAlone},
		},
	}
}

// failing returns all contenders around stubs that fail.
func failing(ctx context.Context, pause time.Duration, newStub func() stub, repeat func(func() error) func(int) error) []contender {
	opts := []reprise.CallOption{policy(pause)}
	bound := reprise.NewUnary(newStub(), opts...)
	invoked := newStub()
	call := func(ctx context.Context, cs reprise.CallSettings) error {
		_, err := invoked(ctx, req, cs.GRPC...)
		return err
	}
	byGax := newStub()
	gaxOpts := gaxOptions(pause)
	gaxCall := func(ctx context.Context, cs gax.CallSettings) error {
		_, err := byGax(ctx, req, cs.GRPC...)
		return err
	}
	byGGM := newStub()
	interceptor := ggmInterceptor(pause)
	invoker := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
		_, err := byGGM(ctx, req, opts...)
		return err
	}
	contenders := []contender{
		{unary, repeat(func() error { _, err := bound.Call(ctx, req); return err })},
		{invoke, repeat(func() error { return reprise.Invoke(ctx, call, opts...) })},
		{gaxInvoke, repeat(func() error { return gax.Invoke(ctx, gaxCall, gaxOpts...) })},
		{ggmUnary, repeat(func() error {
			return interceptor(ctx, "/service/Method", req, resp, nil, invoker)
		})},
	}
	generic := newStub()
	for _, p := range genericPeers(ctx, pause, func() error { _, err := generic(ctx, req); return err }) {
		contenders = append(contenders, contender{p.name, repeat(p.call)})
	}
	return contenders
}
