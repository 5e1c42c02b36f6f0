package migrating

import (
	"context"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v7"
	"github.com/reprise-go/reprise"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func withBackoff(ctx context.Context, client grpc_health_v1.HealthClient, req *request) (*response, error) {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = 10 * time.Millisecond
	return backoff.Retry(ctx, func() (*response, error) {
		resp, err := client.Check(ctx, req)
		if err != nil && status.Code(err) != codes.Unavailable {
			return nil, backoff.Permanent(err)
		}
		return resp, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxTries(4), backoff.WithMaxElapsedTime(time.Minute))
}

func insteadOfBackoff(ctx context.Context, client grpc_health_v1.HealthClient, req *request) (*response, error) {
	return reprise.Do(ctx, func(ctx context.Context) (*response, error) {
		return client.Check(ctx, req)
	}, reprise.WithRetry(func() reprise.Retryer {
		return reprise.OnUnavailable(reprise.Backoff{Initial: 10 * time.Millisecond, Multiplier: 1.5})
	}), reprise.WithMaxAttempts(4), reprise.WithMaxElapsed(time.Minute))
}

func TestFromBackoff(t *testing.T) {
	t.Parallel()
	with := func(call func(context.Context, grpc_health_v1.HealthClient, *request) (*response, error)) func(*testing.T, *flaky) (*response, error) {
		return func(t *testing.T, s *flaky) (*response, error) {
			t.Helper()
			return call(t.Context(), dial(t, s), new(request))
		}
	}
	same(t, []way{{"cenkalti/backoff", with(withBackoff)}, {"Reprise", with(insteadOfBackoff)}})
}
