package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/avast/retry-go/v5"
	"github.com/cenkalti/backoff/v7"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/googleapis/gax-go/v2"
	ggm "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	sethvargo "github.com/sethvargo/go-retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// The peers, each set up once as its documentation advises, and each to do the
// same: retry Unavailable, pause as told, at most five attempts where there is such
// a limit.
const attempts = 5

func isRetried(err error) bool { return slices.Contains(retried, status.Code(err)) }

// gaxOptions are those of a generated Google client.
func gaxOptions(pause time.Duration) []gax.CallOption {
	return []gax.CallOption{gax.WithRetry(func() gax.Retryer {
		return gax.OnCodes(retried, gax.Backoff{Initial: pause, Max: pause})
	})}
}

func ggmInterceptor(pause time.Duration) grpc.UnaryClientInterceptor {
	return ggm.UnaryClientInterceptor(
		ggm.WithMax(attempts),
		ggm.WithCodes(retried...),
		ggm.WithBackoff(func(context.Context, uint) time.Duration { return pause }),
	)
}

func failsafeExecutor(pause time.Duration) failsafe.Executor[*response] {
	return failsafe.With[*response](retrypolicy.NewBuilder[*response]().
		HandleIf(func(_ *response, err error) bool { return isRetried(err) }).
		WithMaxAttempts(attempts).
		WithDelay(pause).
		Build())
}

func avastRetrier(pause time.Duration) *retry.Retrier {
	return retry.New(
		retry.Attempts(attempts),
		retry.RetryIf(isRetried),
		retry.DelayType(retry.FixedDelay),
		retry.Delay(pause),
		retry.MaxJitter(0),
		retry.LastErrorOnly(true),
	)
}

// permanent marks errors for cenkalti/backoff, which retries all others.
func permanent(err error) error {
	if err == nil || isRetried(err) {
		return err
	}
	return backoff.Permanent(err)
}

// retryable marks errors for sethvargo/go-retry, which retries no others.
func retryable(err error) error {
	if err != nil && isRetried(err) {
		return sethvargo.RetryableError(err)
	}
	return err
}

// genericPeers are the libraries that know no gRPC, around a function.
func genericPeers(ctx context.Context, pause time.Duration, fn func() error) []struct {
	name string
	call func() error
} {
	executor, retrier := failsafeExecutor(pause), avastRetrier(pause)
	cenkalti := func() (*response, error) { return resp, permanent(fn()) }
	seth := func(context.Context) error { return retryable(fn()) }
	return []struct {
		name string
		call func() error
	}{
		{"avast/retry-go Retrier.Do", func() error { return retrier.Do(fn) }},
		{"sethvargo/go-retry Do", func() error {
			// Its backoff counts, so that every call needs one of its own.
			return sethvargo.Do(ctx, sethvargo.WithMaxRetries(attempts-1, sethvargo.NewConstant(pause)), seth)
		}},
		{"cenkalti/backoff Retry", func() error {
			_, err := backoff.Retry(ctx, cenkalti, backoff.WithBackOff(backoff.NewConstantBackOff(pause)), backoff.WithMaxTries(attempts))
			if failed, ok := errors.AsType[*backoff.RetryError](err); ok {
				return failed.LastErr
			}
			return err
		}},
		{"failsafe-go Run", func() error { return executor.Run(fn) }},
	}
}
