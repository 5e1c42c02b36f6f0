package snippets_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reprise-go/reprise"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func policy() reprise.Retryer {
	return reprise.OnCodes([]codes.Code{codes.Unavailable}, reprise.Backoff{
		Initial: 50 * time.Millisecond,
		Max:     2 * time.Second,
	})
}

func Example_function() {
	ctx, attempts := context.Background(), 0
	lookUp := func(context.Context, int) (string, error) {
		if attempts++; attempts < 3 {
			return "", status.Error(codes.Unavailable, "not yet")
		}
		return "Ada", nil
	}

	name, err := reprise.Do(ctx, func(ctx context.Context) (string, error) {
		return lookUp(ctx, 7)
	}, reprise.WithRetry(policy), reprise.WithTimeout(5*time.Second))

	fmt.Println(name, err, attempts)
	// Output: Ada <nil> 3
}

func Example_method() {
	ctx := context.Background()
	conn, closeConn := connect(health.NewServer())
	defer closeConn()

	budget := reprise.NewThrottle(10, 0.1) // one for each server
	check := reprise.NewUnary(grpc_health_v1.NewHealthClient(conn).Check,
		reprise.WithRetry(policy),
		reprise.WithThrottle(budget),
		reprise.WithMaxAttempts(4),
	)
	resp, err := check.Call(ctx, &grpc_health_v1.HealthCheckRequest{})

	fmt.Println(resp.GetStatus(), err)
	// Output: SERVING <nil>
}

func Example_stopped() {
	err := reprise.Invoke(context.Background(), func(context.Context, reprise.CallSettings) error {
		return status.Error(codes.Unavailable, "no leader")
	}, reprise.WithRetry(policy), reprise.WithMaxAttempts(2))

	if stopped, ok := errors.AsType[*reprise.Error](err); ok {
		fmt.Println(stopped.Reason, "after", stopped.Made, "attempts:", stopped.Err)
	}
	// Output: attempts exhausted after 2 attempts: rpc error: code = Unavailable desc = no leader
}
