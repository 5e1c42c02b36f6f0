package serviceconfig_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/serviceconfig"
)

// A flaky server answers Check and Watch with failures as long as it has any.
type flaky struct {
	healthpb.UnimplementedHealthServer
	failures  atomic.Int32
	calls     atomic.Int32
	deadlines chan bool // whether a stream came with a deadline
}

func (f *flaky) answer() error {
	f.calls.Add(1)
	if f.failures.Add(-1) >= 0 {
		return status.Error(codes.Unavailable, "not yet")
	}
	return nil
}

func (f *flaky) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, f.answer()
}

func (f *flaky) List(context.Context, *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	return &healthpb.HealthListResponse{}, f.answer()
}

func (f *flaky) Watch(_ *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	if err := f.answer(); err != nil {
		return err
	}
	_, ok := stream.Context().Deadline()
	f.deadlines <- ok
	return stream.Send(&healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING})
}

// dial returns a client of f whose connection follows the config doc.
func (f *flaky) dial(t *testing.T, doc string) healthpb.HealthClient {
	t.Helper()
	f.deadlines = make(chan bool, 1)
	listener := bufconn.Listen(1 << 16)
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, f)
	go s.Serve(listener)
	t.Cleanup(s.Stop)
	p := serviceconfig.NewPolicy(mustParse(t, doc))
	conn, err := grpc.NewClient("passthrough:///flaky",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		grpc.WithUnaryInterceptor(p.UnaryClientInterceptor()),
		grpc.WithStreamInterceptor(p.StreamClientInterceptor()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return healthpb.NewHealthClient(conn)
}

const intercepted = `{"methodConfig": [
  {"name": [{"service": "grpc.health.v1.Health"}], "timeout": "60s",
   "retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.001s", "maxBackoff": "0.002s",
     "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}},
  {"name": [{"service": "grpc.health.v1.Health", "method": "List"}],
   "hedgingPolicy": {"maxAttempts": 3, "nonFatalStatusCodes": ["UNAVAILABLE"]}}`

// entries returns the config with more entries.
func entries(more string) string { return intercepted + more + "]}" }

func TestAnInterceptedUnaryCallFollowsTheConfig(t *testing.T) {
	t.Parallel()
	f := new(flaky)
	client := f.dial(t, entries(""))
	f.failures.Store(3)
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || f.calls.Load() != 4 {
		t.Errorf("got %v after %d attempts, want success after 4", err, f.calls.Load())
	}
	f.calls.Store(0)
	f.failures.Store(1)
	_, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}, reprise.PerCall(reprise.WithRetry(nil)))
	if status.Code(err) != codes.Unavailable || f.calls.Load() != 1 {
		t.Errorf("of a call that overrides it: got %v after %d attempts, want Unavailable after 1", err, f.calls.Load())
	}
}

func TestAnInterceptedCallIsNotHedged(t *testing.T) {
	t.Parallel()
	f := new(flaky)
	client := f.dial(t, entries(""))
	f.failures.Store(1)
	_, err := client.List(t.Context(), &healthpb.HealthListRequest{})
	if status.Code(err) != codes.Unavailable || f.calls.Load() != 1 {
		t.Errorf("got %v after %d attempts, want Unavailable after 1", err, f.calls.Load())
	}
}

func TestAnInterceptedStreamFollowsTheConfig(t *testing.T) {
	t.Parallel()
	const watch = `, {"name": [{"service": "grpc.health.v1.Health", "method": "Watch"}], ` +
		`"retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.001s", "maxBackoff": "0.002s", ` +
		`"backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}`
	for more, bounded := range map[string]bool{"": true, watch: false} {
		f := new(flaky)
		client := f.dial(t, entries(more))
		f.failures.Store(3)
		stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil || f.calls.Load() != 4 {
			t.Fatalf("got %v after %d attempts, want a message after 4", err, f.calls.Load())
		}
		if got := <-f.deadlines; got != bounded {
			t.Errorf("the stream has a deadline: %v, want %v", got, bounded)
		}
	}
}

func TestAHedgingPolicyHedgesABoundCall(t *testing.T) {
	t.Parallel()
	f := new(flaky)
	f.failures.Store(2)
	p := serviceconfig.NewPolicy(mustParse(t, entries("")))
	list := reprise.NewUnary(func(ctx context.Context, req *healthpb.HealthListRequest, _ ...grpc.CallOption) (*healthpb.HealthListResponse, error) {
		return f.List(ctx, req)
	}, p.CallOptions("/grpc.health.v1.Health/List")...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := list.Call(ctx, &healthpb.HealthListRequest{}); err != nil || f.calls.Load() != 3 {
		t.Errorf("got %v after %d attempts, want success by the third of 3 at once", err, f.calls.Load())
	}
}
