package otelcall_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/otelcall"
)

func TestAnObserverThatNobodyMadeDoesNothing(t *testing.T) {
	for name, obs := range map[string]*otelcall.Observer{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			attempts := 0
			err := reprise.Invoke(t.Context(), func(ctx context.Context, _ reprise.CallSettings) error {
				obs.StatsHandler().HandleRPC(ctx, &stats.Begin{IsTransparentRetryAttempt: true})
				if attempts++; attempts == 1 {
					return status.Error(codes.Unavailable, "not yet")
				}
				return nil
			}, reprise.WithObserver(obs), reprise.WithRetry(func() reprise.Retryer {
				return reprise.OnCodes([]codes.Code{codes.Unavailable}, reprise.Backoff{Initial: time.Nanosecond})
			}))
			if err != nil || attempts != 2 {
				t.Errorf("after %d attempts: %v", attempts, err)
			}
		})
	}
}
