package snippets_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/reprise-go/reprise"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// What docs/retry-policy.md says of grpc.WithDisableRetry.
func TestAttemptsMultiplyUnlessTheConnectionsOwnRetryIsOff(t *testing.T) {
	t.Parallel()
	const config = `{"methodConfig": [{"name": [{}], "retryPolicy": {
		"maxAttempts": 3, "initialBackoff": "0.001s", "maxBackoff": "0.001s",
		"backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`
	for _, c := range []struct {
		name string
		opts []grpc.DialOption
		want int64
	}{
		{"no retry of the connection's own", nil, 3},
		{"with a service config", []grpc.DialOption{grpc.WithDefaultServiceConfig(config)}, 9},
		{"with a service config and WithDisableRetry", []grpc.DialOption{grpc.WithDefaultServiceConfig(config), grpc.WithDisableRetry()}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			down := new(downServer)
			conn, closeConn := connect(down, c.opts...)
			t.Cleanup(closeConn)
			check := reprise.NewUnary(grpc_health_v1.NewHealthClient(conn).Check,
				reprise.WithRetry(policy), reprise.WithMaxAttempts(3))
			_, err := check.Call(t.Context(), &grpc_health_v1.HealthCheckRequest{})
			if got := down.calls.Load(); got != c.want || status.Code(err) != codes.Unavailable {
				t.Errorf("the server saw %d attempts, want %d; %v", got, c.want, err)
			}
		})
	}
}

// downServer fails every call and counts them.
type downServer struct {
	grpc_health_v1.UnimplementedHealthServer
	calls atomic.Int64
}

func (s *downServer) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	s.calls.Add(1)
	return nil, status.Error(codes.Unavailable, "down")
}
