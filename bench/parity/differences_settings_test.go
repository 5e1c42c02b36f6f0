package parity

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/googleapis/gax-go/v2"
	"github.com/reprise-go/reprise"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

var optionDifferences = []difference{
	{
		name: "WithGRPCOptions adds up",
		gax: func(ctx context.Context) string {
			n := 0
			_ = gax.Invoke(ctx, func(_ context.Context, cs gax.CallSettings) error { n = len(cs.GRPC); return nil },
				gax.WithGRPCOptions(grpc.MaxCallSendMsgSize(1)), gax.WithGRPCOptions(grpc.MaxCallRecvMsgSize(1)))
			return fmt.Sprint(n)
		},
		reprise: func(ctx context.Context) string {
			n := 0
			_ = reprise.Invoke(ctx, func(_ context.Context, cs reprise.CallSettings) error { n = len(cs.GRPC); return nil },
				reprise.WithGRPCOptions(grpc.MaxCallSendMsgSize(1)), reprise.WithGRPCOptions(grpc.MaxCallRecvMsgSize(1)))
			return fmt.Sprint(n)
		},
		inGax:     "1",
		inReprise: "2",
	},
	{
		name: "WithTimeout and a deadline: the earlier one holds",
		gax: func(ctx context.Context) string {
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			return untilDone(ctx, func(ctx context.Context, wait func(context.Context) error) error {
				return gax.Invoke(ctx, func(ctx context.Context, _ gax.CallSettings) error { return wait(ctx) },
					gax.WithTimeout(time.Second))
			})
		},
		reprise: func(ctx context.Context) string {
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			return untilDone(ctx, func(ctx context.Context, wait func(context.Context) error) error {
				return reprise.Invoke(ctx, func(ctx context.Context, _ reprise.CallSettings) error { return wait(ctx) },
					reprise.WithTimeout(time.Second))
			})
		},
		inGax:     "1h0m0s",
		inReprise: "1s",
	},
	{
		name:      "A nil call is an error",
		gax:       func(ctx context.Context) string { return fmt.Sprint(gax.Invoke(ctx, nil) != nil) },
		reprise:   func(ctx context.Context) string { return fmt.Sprintf("%T", reprise.Invoke(ctx, nil)) },
		inGax:     "a panic",
		inReprise: "*reprise.ArgumentError",
	},
	{
		name: "A nil context is an error",
		gax: func(context.Context) string {
			call, _ := always(nil, new(int))
			return fmt.Sprint(gax.Invoke(nil, call)) //nolint:staticcheck // that is the question
		},
		reprise: func(context.Context) string {
			_, call := always(nil, new(int))
			return fmt.Sprintf("%T", reprise.Invoke(nil, call)) //nolint:staticcheck // that is the question
		},
		inGax:     "a panic",
		inReprise: "*reprise.ArgumentError",
	},
	{
		name: "A nil option is ignored",
		gax: func(ctx context.Context) string {
			call, _ := always(nil, new(int))
			return fmt.Sprint(gax.Invoke(ctx, call, nil))
		},
		reprise: func(ctx context.Context) string {
			_, call := always(nil, new(int))
			return fmt.Sprint(reprise.Invoke(ctx, call, nil))
		},
		inGax:     "a panic",
		inReprise: "<nil>",
	},
	{
		name: "A nil predicate retries nothing",
		gax: func(context.Context) string {
			_, ok := gax.OnErrorFunc(gax.Backoff{}, nil).Retry(errServer)
			return fmt.Sprint(ok)
		},
		reprise: func(context.Context) string {
			_, ok := reprise.OnErrorFunc(reprise.Backoff{}, nil).Retry(errServer)
			return fmt.Sprint(ok)
		},
		inGax:     "a panic",
		inReprise: "false",
	},
}

// untilDone says after how long a call gave up that waits for its context.
func untilDone(ctx context.Context, invoke func(ctx context.Context, wait func(context.Context) error) error) string {
	start := time.Now()
	_ = invoke(ctx, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	return time.Since(start).String()
}

var headerDifferences = []difference{
	{
		name:      "A key without a value has an empty one",
		gax:       func(context.Context) string { return gax.XGoogHeader("a", "1", "b") },
		reprise:   func(context.Context) string { return reprise.XGoogHeader("a", "1", "b") },
		inGax:     "a panic",
		inReprise: "a/1 b/",
	},
	{
		name: "No value of a header is lost",
		gax: func(ctx context.Context) string {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-goog-api-client", "outer/1")
			ctx = gax.InsertMetadataIntoOutgoingContext(ctx, "X-Goog-Api-Client", "upper/1", "x-goog-api-client", "lower/1")
			return xGoog(ctx)
		},
		reprise: func(ctx context.Context) string {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-goog-api-client", "outer/1")
			ctx = reprise.InsertMetadataIntoOutgoingContext(ctx, "X-Goog-Api-Client", "upper/1", "x-goog-api-client", "lower/1")
			return xGoog(ctx)
		},
		inGax:     "a part",
		inReprise: "outer/1 upper/1 lower/1",
	},
	{
		name: "HTTP headers are canonical",
		gax: func(ctx context.Context) string {
			return fmt.Sprintf("%q", gax.BuildHeaders(ctx, "x-goog-foo", "bar").Get("X-Goog-Foo"))
		},
		reprise: func(ctx context.Context) string {
			return fmt.Sprintf("%q", reprise.BuildHeaders(ctx, "x-goog-foo", "bar").Get("X-Goog-Foo"))
		},
		inGax:     `""`,
		inReprise: `"bar"`,
	},
}

// xGoog is the header as sent; which part gax-go sends depends on the order of a
// map.
func xGoog(ctx context.Context) string {
	md, _ := metadata.FromOutgoingContext(ctx)
	got := strings.Join(md.Get("x-goog-api-client"), ",")
	for _, part := range []string{"outer/1", "upper/1", "lower/1"} {
		if !strings.Contains(got, part) {
			return "a part"
		}
	}
	return got
}
