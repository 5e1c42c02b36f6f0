package parity

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/googleapis/gax-go/v2"
	"github.com/googleapis/gax-go/v2/apierror"
	"github.com/reprise-go/reprise"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var errorDifferences = []difference{
	{
		name: "The error is the attempt's own",
		gax: func(ctx context.Context) string {
			made := 0
			call, _ := always(errServer, &made)
			return identity(gax.Invoke(ctx, call), errServer)
		},
		reprise: func(ctx context.Context) string {
			made := 0
			_, call := always(errServer, &made)
			return identity(reprise.Invoke(ctx, call), errServer)
		},
		inGax:     "an *apierror.APIError around it",
		inReprise: "the same error",
	},
	{
		name: "The Retryer sees the attempt's own error",
		gax: func(ctx context.Context) string {
			var saw string
			_ = gax.Invoke(ctx, func(context.Context, gax.CallSettings) error { return errServer },
				gax.WithRetry(func() gax.Retryer {
					return gax.OnErrorFunc(gax.Backoff{}, func(err error) bool { saw = identity(err, errServer); return false })
				}))
			return saw
		},
		reprise: func(ctx context.Context) string {
			var saw string
			_ = reprise.Invoke(ctx, func(context.Context, reprise.CallSettings) error { return errServer },
				reprise.WithRetry(func() reprise.Retryer {
					return reprise.OnErrorFunc(reprise.Backoff{}, func(err error) bool { saw = identity(err, errServer); return false })
				}))
			return saw
		},
		inGax:     "an *apierror.APIError around it",
		inReprise: "the same error",
	},
	{
		name: "No message decides",
		gax: func(ctx context.Context) string {
			made := 0
			_ = gax.Invoke(ctx, func(context.Context, gax.CallSettings) error { made++; return x509Once(made) }, gaxRetry)
			return fmt.Sprint(made, " attempts")
		},
		reprise: func(ctx context.Context) string {
			made := 0
			_ = reprise.Invoke(ctx, func(context.Context, reprise.CallSettings) error { made++; return x509Once(made) }, repriseRetry)
			return fmt.Sprint(made, " attempts")
		},
		inGax:     "1 attempts",
		inReprise: "2 attempts",
	},
}

// x509Once is the error of the first of two attempts.
func x509Once(attempt int) error {
	if attempt > 1 {
		return nil
	}
	return status.Error(codes.Unavailable, "a peer said: x509: certificate signed by unknown authority")
}

func identity(got, want error) string {
	_, wrapped := got.(*apierror.APIError) //nolint:errorlint // the question is what it is itself
	switch {
	case got == want: //nolint:errorlint // the same
		return "the same error"
	case wrapped:
		return "an *apierror.APIError around it"
	}
	return fmt.Sprintf("%T", got)
}

var backoffDifferences = []difference{
	{
		name: "Initial is capped by Max",
		gax: func(context.Context) string {
			return longest(func() time.Duration {
				return (&gax.Backoff{Initial: time.Hour, Max: time.Second}).Pause()
			}, time.Second)
		},
		reprise: func(context.Context) string {
			return longest(func() time.Duration {
				return (&reprise.Backoff{Initial: time.Hour, Max: time.Second}).Pause()
			}, time.Second)
		},
		inGax:     "a pause beyond the limit",
		inReprise: "none beyond the limit",
	},
	{
		name: "No value of a Backoff panics",
		gax: func(context.Context) string {
			bo := gax.Backoff{Initial: time.Second, Max: math.MaxInt64, Multiplier: math.Inf(1)}
			return fmt.Sprint(bo.Pause() > 0, bo.Pause() > 0)
		},
		reprise: func(context.Context) string {
			for _, initial := range []time.Duration{math.MinInt64, -1, 0, 1, math.MaxInt64} {
				for _, limit := range []time.Duration{math.MinInt64, -1, 0, 1, math.MaxInt64} {
					for _, m := range []float64{math.NaN(), math.Inf(-1), -1, 0, 0.5, 1, 1e300, math.Inf(1)} {
						bo := reprise.Backoff{Initial: initial, Max: limit, Multiplier: m}
						for range 3 {
							if bo.Pause() < 1 {
								return fmt.Sprintf("no pause from %+v", bo)
							}
						}
					}
				}
			}
			return "pauses from all"
		},
		inGax:     "a panic",
		inReprise: "pauses from all",
	},
	{
		name: "A Multiplier below 1 shrinks the pauses",
		gax: func(context.Context) string {
			return longest(func() time.Duration {
				bo := gax.Backoff{Initial: time.Second, Multiplier: 0.5}
				bo.Pause()
				return bo.Pause()
			}, time.Second/2)
		},
		reprise: func(context.Context) string {
			return longest(func() time.Duration {
				bo := reprise.Backoff{Initial: time.Second, Multiplier: 0.5}
				bo.Pause()
				return bo.Pause()
			}, time.Second/2)
		},
		inGax:     "a pause beyond the limit",
		inReprise: "none beyond the limit",
	},
}

// longest draws a thousand pauses.
func longest(pause func() time.Duration, limit time.Duration) string {
	for range 1000 {
		if pause() > limit {
			return "a pause beyond the limit"
		}
	}
	return "none beyond the limit"
}
