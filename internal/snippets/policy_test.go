package snippets_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/reprise-go/reprise"
)

// moody is a server whose first call fails, or hangs.
type moody struct {
	testpb.UnimplementedTestServiceServer

	hangs bool
	calls atomic.Int32
}

func (m *moody) EmptyCall(ctx context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
	if m.calls.Add(1) > 1 {
		return &testpb.Empty{}, nil
	}
	if m.hangs {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	return nil, status.Error(codes.Unavailable, "starting")
}

func (m *moody) client(t *testing.T) testpb.TestServiceClient {
	t.Helper()
	lis, srv := bufconn.Listen(1<<16), grpc.NewServer()
	testpb.RegisterTestServiceServer(srv, m)
	go func() { _ = srv.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///moody", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		srv.Stop()
	})
	return testpb.NewTestServiceClient(conn)
}

func TestTheRecommendedPolicy(t *testing.T) {
	t.Parallel()
	client := (&moody{}).client(t)
	get := reprise.NewUnary(client.EmptyCall, reprise.Recommended())
	if _, err := get.Call(t.Context(), &testpb.Empty{}); err != nil {
		t.Error(err)
	}
}

func TestTheHedgingPolicy(t *testing.T) {
	t.Parallel()
	client := (&moody{hangs: true}).client(t)
	hedged := reprise.NewUnary(client.EmptyCall, reprise.WithHedge(reprise.HedgePolicy{
		MaxAttempts:   2,
		Delay:         25 * time.Millisecond,
		NonFatalCodes: []codes.Code{codes.Unavailable},
	}))
	if _, err := hedged.Call(t.Context(), &testpb.Empty{}); err != nil {
		t.Error(err)
	}
}
