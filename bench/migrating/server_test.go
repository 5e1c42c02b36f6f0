package migrating

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

type (
	request  = grpc_health_v1.HealthCheckRequest
	response = grpc_health_v1.HealthCheckResponse
)

// A flaky server fails its first calls, and then answers.
type flaky struct {
	grpc_health_v1.UnimplementedHealthServer
	failures int64
	code     codes.Code
	calls    atomic.Int64
}

func (s *flaky) Check(context.Context, *request) (*response, error) {
	if s.calls.Add(1) <= s.failures {
		return nil, status.Error(s.code, "scripted")
	}
	return &response{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

// dial serves s in memory and connects to it.
func dial(t *testing.T, s *flaky, opts ...grpc.DialOption) grpc_health_v1.HealthClient {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, s)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() { server.Stop(); <-served })
	conn, err := grpc.NewClient("passthrough:///memory", append(opts,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return grpc_health_v1.NewHealthClient(conn)
}

// A way is one side of a comparison.
type way struct {
	name string
	call func(t *testing.T, s *flaky) (*response, error)
}

// same makes the same calls through all ways.
func same(t *testing.T, ways []way) {
	t.Helper()
	for _, c := range []struct {
		name     string
		failures int64
		code     codes.Code
		attempts int64
		want     codes.Code
	}{
		{"a success", 0, codes.OK, 1, codes.OK},
		{"two failures that are retried", 2, codes.Unavailable, 3, codes.OK},
		{"more failures than attempts", 9, codes.Unavailable, 4, codes.Unavailable},
		{"a failure that is not retried", 9, codes.NotFound, 1, codes.NotFound},
	} {
		for _, w := range ways {
			t.Run(c.name+"/"+w.name, func(t *testing.T) {
				t.Parallel()
				s := &flaky{failures: c.failures, code: c.code}
				resp, err := w.call(t, s)
				if status.Code(err) != c.want || s.calls.Load() != c.attempts {
					t.Errorf("%d attempts, %v; want %d, %v", s.calls.Load(), err, c.attempts, c.want)
				}
				if err == nil && resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
					t.Errorf("got %v", resp)
				}
			})
		}
	}
}
