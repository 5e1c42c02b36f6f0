package migrating

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/googleapis/gax-go/v2"
	"github.com/reprise-go/reprise"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func withGax(ctx context.Context, client grpc_health_v1.HealthClient, req *request) (*response, error) {
	var resp *response
	err := gax.Invoke(ctx, func(ctx context.Context, settings gax.CallSettings) error {
		var err error
		resp, err = client.Check(ctx, req, settings.GRPC...)
		return err
	}, gax.WithRetry(func() gax.Retryer {
		return gax.OnCodes([]codes.Code{codes.Unavailable}, gax.Backoff{
			Initial:    10 * time.Millisecond,
			Max:        time.Second,
			Multiplier: 1.3,
		})
	}))
	return resp, err
}

func insteadOfGax(ctx context.Context, client grpc_health_v1.HealthClient, req *request) (*response, error) {
	check := reprise.NewUnary(client.Check, reprise.WithRetry(func() reprise.Retryer {
		return reprise.OnCodes([]codes.Code{codes.Unavailable}, reprise.Backoff{
			Initial:    10 * time.Millisecond,
			Max:        time.Second,
			Multiplier: 1.3,
		})
	}))
	return check.Call(ctx, req)
}

func TestFromGax(t *testing.T) {
	t.Parallel()
	// Neither call has a limit of attempts: here the caller has had enough of four.
	with := func(call func(context.Context, grpc_health_v1.HealthClient, *request) (*response, error)) func(*testing.T, *flaky) (*response, error) {
		return func(t *testing.T, s *flaky) (*response, error) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			resp, err := call(ctx, patient{dial(t, s), s, cancel}, new(request))
			if errors.Is(err, context.Canceled) {
				err = status.Error(codes.Unavailable, "four times")
			}
			return resp, err
		}
	}
	same(t, []way{{"gax-go", with(withGax)}, {"Reprise", with(insteadOfGax)}})
}

// patient cancels the call after four failures.
type patient struct {
	grpc_health_v1.HealthClient
	server *flaky
	cancel func()
}

func (p patient) Check(ctx context.Context, req *request, opts ...grpc.CallOption) (*response, error) {
	resp, err := p.HealthClient.Check(ctx, req, opts...)
	if err != nil && p.server.calls.Load() == 4 {
		p.cancel()
	}
	return resp, err
}
