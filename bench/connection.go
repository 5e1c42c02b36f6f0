package main

import (
	"context"
	"errors"
	"net"

	"github.com/reprise-go/reprise"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"
)

const rawStub = "raw stub"

// connectionGroup makes real RPCs: a health check over a connection in memory.
func connectionGroup() (group, func(), error) {
	ctx := context.Background()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // every call fails if it does
	}()

	dial := func(opts ...grpc.DialOption) (*grpc.ClientConn, error) {
		return grpc.NewClient("passthrough:///memory", append(opts,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			// One retry loop, and not gRPC's.
			grpc.WithDisableRetry(),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return listener.DialContext(ctx)
			}))...)
	}
	plain, err := dial()
	if err != nil {
		return group{}, nil, errors.Join(err, listener.Close())
	}
	intercepted, err := dial(grpc.WithUnaryInterceptor(ggmInterceptor(1)))
	if err != nil {
		return group{}, nil, errors.Join(err, plain.Close(), listener.Close())
	}
	closeAll := func() {
		_ = plain.Close()
		_ = intercepted.Close()
		server.Stop()
		<-served
	}

	raw := grpc_health_v1.NewHealthClient(plain)
	opts := []reprise.CallOption{policy(1), reprise.WithMaxAttempts(attempts), reprise.WithThrottle(reprise.NewThrottle(10, 0.1))}
	bound := reprise.NewUnary(raw.Check, opts...)
	byGGM := grpc_health_v1.NewHealthClient(intercepted)
	ask := func(check stub) func(int) error {
		return repeat(func() error {
			got, err := check(ctx, req)
			if err == nil && got.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
				return errAnswer
			}
			return err
		})
	}
	return group{
		name: "A health check over a gRPC connection in memory",
		long: true,
		contenders: []contender{
			{rawStub, ask(raw.Check)},
			{unary, ask(func(ctx context.Context, r *request, o ...grpc.CallOption) (*response, error) {
				return bound.Call(ctx, r)
			})},
			{ggmUnary, ask(byGGM.Check)},
			gaxContender(ctx, raw.Check),
		},
		promises: []promise{
			{text: "Unary.Call takes at most 1% more than the raw stub", what: slowerBy, of: unary, to: rawStub, limit: 1.01, tolerance: 0.02},
			{text: "Unary.Call allocates no more than the raw stub", what: allocsMore, of: unary, to: rawStub},
		},
	}, closeAll, nil
}
