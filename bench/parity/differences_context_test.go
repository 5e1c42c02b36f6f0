package parity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/googleapis/gax-go/v2"
	"github.com/reprise-go/reprise"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

var contextDifferences = []difference{
	{
		name: "The last error survives the deadline",
		gax: func(ctx context.Context) string {
			made := 0
			call, _ := always(errServer, &made)
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			err := gax.Invoke(ctx, call, gaxRetry)
			return fmt.Sprint(errors.Is(err, context.DeadlineExceeded), errors.Is(err, errServer), status.Code(err))
		},
		reprise: func(ctx context.Context) string {
			made := 0
			_, call := always(errServer, &made)
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			err := reprise.Invoke(ctx, call, repriseRetry)
			return fmt.Sprint(errors.Is(err, context.DeadlineExceeded), errors.Is(err, errServer), status.Code(err))
		},
		inGax:     "true false Unknown",
		inReprise: "true true DeadlineExceeded",
	},
	{
		name: "No sleep that ends at the deadline",
		gax: func(ctx context.Context) string {
			start, made := time.Now(), 0
			call, _ := always(errServer, &made)
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_ = gax.Invoke(ctx, call, gax.WithRetry(func() gax.Retryer {
				return &fixedRetryer{pauses: []time.Duration{time.Hour}}
			}))
			return fmt.Sprintf("returned after %v", time.Since(start))
		},
		reprise: func(ctx context.Context) string {
			start, made := time.Now(), 0
			_, call := always(errServer, &made)
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_ = reprise.Invoke(ctx, call, reprise.WithRetry(func() reprise.Retryer {
				return &fixedRetryer{pauses: []time.Duration{time.Hour}}
			}))
			return fmt.Sprintf("returned after %v", time.Since(start))
		},
		inGax:     "returned after 1s",
		inReprise: "returned after 0s",
	},
	{
		name: "No attempt on a dead context",
		gax: func(ctx context.Context) string {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			made := 0
			call, _ := always(errServer, &made)
			err := gax.Invoke(ctx, call)
			return fmt.Sprint(made, " attempt, ", status.Code(err))
		},
		reprise: func(ctx context.Context) string {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			made := 0
			_, call := always(errServer, &made)
			err := reprise.Invoke(ctx, call)
			return fmt.Sprint(made, " attempt, ", status.Code(err))
		},
		inGax:     "1 attempt, Unavailable",
		inReprise: "0 attempt, Canceled",
	},
	{
		name: "Sleep always reports a context that is done",
		gax: func(ctx context.Context) string {
			return sleepOnDead(ctx, gax.Sleep)
		},
		reprise: func(ctx context.Context) string {
			return sleepOnDead(ctx, reprise.Sleep)
		},
		inGax:     "sometimes nil",
		inReprise: "never nil",
	},
	{
		name: "The cause of a cancellation is kept",
		gax: func(ctx context.Context) string {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(time.Second/2, func() { cancel(errPlain) })
			err := gax.Invoke(ctx, func(context.Context, gax.CallSettings) error { return errServer },
				gax.WithRetry(func() gax.Retryer { return &fixedRetryer{pauses: []time.Duration{time.Second}} }))
			return fmt.Sprint(errors.Is(err, context.Canceled), errors.Is(err, errPlain), status.Code(err))
		},
		reprise: func(ctx context.Context) string {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(time.Second/2, func() { cancel(errPlain) })
			err := reprise.Invoke(ctx, func(context.Context, reprise.CallSettings) error { return errServer },
				reprise.WithRetry(func() reprise.Retryer { return &fixedRetryer{pauses: []time.Duration{time.Second}} }))
			return fmt.Sprint(errors.Is(err, context.Canceled), errors.Is(err, errPlain), status.Code(err))
		},
		inGax:     "true false Unknown",
		inReprise: "true true Canceled",
	},
	{
		name: "A retry says which attempt it is",
		gax: func(ctx context.Context) string {
			var sent []string
			_ = gax.Invoke(ctx, func(ctx context.Context, _ gax.CallSettings) error {
				sent = append(sent, previousAttempts(ctx))
				return []error{errServer, errServer, nil}[len(sent)-1]
			}, gaxRetry)
			return strings.Join(sent, ",")
		},
		reprise: func(ctx context.Context) string {
			var sent []string
			_ = reprise.Invoke(ctx, func(ctx context.Context, _ reprise.CallSettings) error {
				sent = append(sent, previousAttempts(ctx))
				return []error{errServer, errServer, nil}[len(sent)-1]
			}, repriseRetry)
			return strings.Join(sent, ",")
		},
		inGax:     "absent,absent,absent",
		inReprise: "absent,1,2",
	},
}

func previousAttempts(ctx context.Context) string {
	md, _ := metadata.FromOutgoingContext(ctx)
	if v := md.Get("grpc-previous-rpc-attempts"); len(v) > 0 {
		return strings.Join(v, "+")
	}
	return "absent"
}

// sleepOnDead sleeps for no time on a cancelled context, a thousand times.
func sleepOnDead(ctx context.Context, sleep func(context.Context, time.Duration) error) string {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	missed := 0
	for range 1000 {
		if sleep(ctx, 0) == nil {
			missed++
		}
	}
	if missed > 0 {
		return "sometimes nil"
	}
	return "never nil"
}
