package gaxcall_test

import (
	"context"
	"fmt"
	"time"

	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/gaxcall"
)

// A generated client's method takes gax options; this is what it does inside.
func getOperation(ctx context.Context, opts ...gax.CallOption) error {
	attempts := 0
	return gax.Invoke(ctx, func(context.Context, gax.CallSettings) error {
		attempts++
		fmt.Println("attempt", attempts)
		return status.Error(codes.Unavailable, "down")
	}, opts...)
}

func ExampleToGAX() {
	policy, err := gaxcall.ToGAX(
		reprise.WithRetry(func() reprise.Retryer {
			return reprise.OnUnavailable(reprise.Backoff{Initial: time.Millisecond})
		}),
		reprise.WithMaxAttempts(2), // gax itself has no such limit
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(status.Code(getOperation(context.Background(), policy)))
	// Output:
	// attempt 1
	// attempt 2
	// Unavailable
}

func ExampleFromGAX() {
	old := []gax.CallOption{gax.WithRetry(func() gax.Retryer {
		return gax.OnCodes([]codes.Code{codes.Unavailable}, gax.Backoff{Initial: time.Millisecond})
	})}
	n, err := reprise.Do(context.Background(), func(ctx context.Context) (int, error) {
		if n := reprise.AttemptFromContext(ctx); n == 3 {
			return n, nil
		}
		return 0, status.Error(codes.Unavailable, "down")
	}, gaxcall.FromGAX(old...))
	fmt.Println(n, err)
	// Output: 3 <nil>
}
