package migrating

import (
	"testing"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"github.com/reprise-go/reprise"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

func middleware() grpc.DialOption {
	return grpc.WithUnaryInterceptor(retry.UnaryClientInterceptor(
		retry.WithMax(4),
		retry.WithCodes(codes.Unavailable),
		retry.WithBackoff(retry.BackoffExponentialWithJitter(10*time.Millisecond, 0.2)),
	))
}

func insteadOfMiddleware() grpc.DialOption {
	return grpc.WithUnaryInterceptor(reprise.UnaryClientInterceptor(
		reprise.WithMaxAttempts(4),
		reprise.WithRetry(func() reprise.Retryer {
			return reprise.OnUnavailable(reprise.Backoff{
				Initial: 10 * time.Millisecond,
				Jitter:  reprise.JitterPlusMinus,
			})
		}),
	))
}

func TestFromMiddleware(t *testing.T) {
	t.Parallel()
	with := func(opt grpc.DialOption) func(*testing.T, *flaky) (*response, error) {
		return func(t *testing.T, s *flaky) (*response, error) {
			t.Helper()
			return dial(t, s, opt).Check(t.Context(), new(request))
		}
	}
	same(t, []way{{"go-grpc-middleware", with(middleware())}, {"Reprise", with(insteadOfMiddleware())}})
}
