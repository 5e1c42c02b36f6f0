package gaxcall_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/googleapis/gax-go/v2"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/api/googleapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/gaxcall"
)

var errDown = status.Error(codes.Unavailable, "down")

func steady(d time.Duration) reprise.Backoff {
	return reprise.Backoff{Initial: d, Max: d, Jitter: reprise.JitterNone}
}

func onDown(d time.Duration) reprise.CallOption {
	return reprise.WithRetry(func() reprise.Retryer { return reprise.OnUnavailable(steady(d)) })
}

// invoke makes a call by gax.Invoke, as a generated client does, whose
// attempts bring the given trailers and fail, but for the last.
func invoke(ctx context.Context, opt gax.CallOption, failures int, trailers ...metadata.MD) (began []time.Duration, err error) {
	start := time.Now()
	err = gax.Invoke(ctx, func(_ context.Context, s gax.CallSettings) error {
		n := len(began)
		began = append(began, time.Since(start))
		var result error
		if n < failures {
			result = errDown
		}
		for _, o := range s.GRPC { // what gRPC does at the end of an RPC
			switch o := o.(type) {
			case grpc.TrailerCallOption:
				if n < len(trailers) {
					*o.TrailerAddr = trailers[n]
				}
			case grpc.OnFinishCallOption:
				o.OnFinish(result)
			}
		}
		return result
	}, opt)
	return began, err
}

func TestGAXRunsUnderARepriseRetryer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		throttle := reprise.NewThrottle(10, 0.5)
		opt, err := gaxcall.ToGAX(onDown(time.Second), reprise.WithThrottle(throttle), reprise.WithMaxAttempts(3), reprise.WithPushback())
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			name     string
			failures int
			trailers []metadata.MD
			began    []time.Duration
			tokens   float64
			code     codes.Code
		}{
			{"success", 0, nil, []time.Duration{0}, 10, codes.OK},
			{"retries", 2, nil, []time.Duration{0, time.Second, 2 * time.Second}, 8.5, codes.OK},
			{"attempts", 9, nil, []time.Duration{0, time.Second, 2 * time.Second}, 5.5, codes.Unavailable},
			{"pushback", 1, []metadata.MD{metadata.Pairs("grpc-retry-pushback-ms", "40")}, []time.Duration{0, 40 * time.Millisecond}, 0, codes.OK},
			{"pushback that says no", 1, []metadata.MD{metadata.Pairs("grpc-retry-pushback-ms", "-1")}, []time.Duration{0}, 0, codes.Unavailable},
		} {
			if test.name == "pushback" {
				for range 20 { // open the throttle again
					throttle.Done(false)
				}
			}
			began, err := invoke(t.Context(), opt, test.failures, test.trailers...)
			if !slices.Equal(began, test.began) || status.Code(err) != test.code {
				t.Errorf("%s: attempts at %v, %v", test.name, began, err)
			}
			if test.tokens != 0 && throttle.Tokens() != test.tokens {
				t.Errorf("%s: %v tokens, want %v", test.name, throttle.Tokens(), test.tokens)
			}
		}
	})
}

func TestGAXKeepsTheTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		opt, err := gaxcall.ToGAX(onDown(2*time.Second), reprise.WithTimeout(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		began, err := invoke(t.Context(), opt, 9)
		if len(began) != 3 || time.Since(start) != 4*time.Second || status.Code(err) != codes.Unavailable {
			t.Errorf("attempts at %v, %v after %v", began, err, time.Since(start))
		}
	})
}

func TestToGAXForwardsGRPCOptions(t *testing.T) {
	t.Parallel()
	own := grpc.MaxCallSendMsgSize(7)
	opt, err := gaxcall.ToGAX(reprise.WithGRPCOptions(own))
	if err != nil {
		t.Fatal(err)
	}
	before := grpc.MaxCallRecvMsgSize(8)
	var s gax.CallSettings
	gax.WithGRPCOptions(before).Resolve(&s)
	opt.Resolve(&s)
	if len(s.GRPC) != 4 || s.GRPC[0] != before || s.GRPC[1] != own {
		t.Errorf("got %v", s.GRPC)
	}
}

func TestToGAXRefusesWhatGAXCannotDo(t *testing.T) {
	t.Parallel()
	for _, opt := range []reprise.CallOption{
		reprise.WithHedge(reprise.HedgePolicy{}), reprise.WithAttemptTimeout(1), reprise.WithObserver(reprise.ObserverFunc(nil)),
	} {
		if _, err := gaxcall.ToGAX(opt); err == nil {
			t.Error("no error")
		} else if _, ok := errors.AsType[*reprise.ArgumentError](err); !ok {
			t.Error(err)
		}
	}
}

func TestRepriseRunsUnderGAXOptions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		send := grpc.MaxCallSendMsgSize(1)
		opt := gaxcall.FromGAX(nil,
			gax.WithRetry(func() gax.Retryer {
				return gax.OnCodes([]codes.Code{codes.Unavailable}, gax.Backoff{Initial: time.Second, Max: time.Second})
			}),
			gax.WithTimeout(time.Minute), gax.WithGRPCOptions(send), gax.WithPath("/dropped"))
		attempts := 0
		err := reprise.Invoke(t.Context(), func(ctx context.Context, cs reprise.CallSettings) error {
			attempts++
			deadline, ok := ctx.Deadline()
			if left := time.Until(deadline); !ok || left > time.Minute || left < 50*time.Second {
				t.Errorf("attempt %d has %v left", attempts, left)
			}
			if !slices.Equal(cs.GRPC, []grpc.CallOption{send}) {
				t.Errorf("gRPC options %v", cs.GRPC)
			}
			if attempts < 3 {
				return errDown
			}
			return nil
		}, opt)
		if err != nil || attempts != 3 {
			t.Errorf("%v after %d attempts", err, attempts)
		}
		// Without a Retryer, or with one that is nil, one attempt is made.
		for _, opt := range []reprise.CallOption{
			gaxcall.FromGAX(), gaxcall.FromGAX(gax.WithRetry(func() gax.Retryer { return nil })),
		} {
			attempts = 0
			err := reprise.Invoke(t.Context(), func(context.Context, reprise.CallSettings) error { attempts++; return errDown }, opt)
			if err != errDown || attempts != 1 { //nolint:errorlint // the very error is promised
				t.Errorf("%v after %d attempts", err, attempts)
			}
		}
	})
}

// optionFunc is a gax option of the caller's own.
type optionFunc func(s *gax.CallSettings)

func (f optionFunc) Resolve(s *gax.CallSettings) { f(s) }

// countingTracer counts the spans that are begun.
type countingTracer struct {
	noop.Tracer

	spans int
}

func (c *countingTracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	c.spans++
	return c.Tracer.Start(ctx, name, opts...)
}

type providerOf struct {
	noop.TracerProvider

	tracer trace.Tracer
}

func (p providerOf) Tracer(string, ...trace.TracerOption) trace.Tracer { return p.tracer }

func TestFromGAXRunsNothingOfTheOptions(t *testing.T) {
	t.Setenv("GOOGLE_SDK_GO_EXPERIMENTAL_TRACING", "true")
	gax.TestOnlyResetIsFeatureEnabled()
	t.Cleanup(gax.TestOnlyResetIsFeatureEnabled)
	resolved, tracer := 0, new(countingTracer)
	tracing := gax.WithClientTracing(gax.NewClientTracing(gax.WithTracerProvider(providerOf{tracer: tracer})))
	gaxcall.FromGAX(tracing, gax.WithTimeout(time.Hour), optionFunc(func(s *gax.CallSettings) {
		resolved++
		s.Retry = func() gax.Retryer { t.Error("a Retryer was made"); return nil }
	}))
	if resolved != 1 || tracer.spans != 0 {
		t.Errorf("an option was resolved %d times, %d spans were begun", resolved, tracer.spans)
	}
	_ = gax.Invoke(t.Context(), func(context.Context, gax.CallSettings) error { return nil }, tracing)
	if tracer.spans != 1 {
		t.Errorf("a call of gax began %d spans: the test shows nothing", tracer.spans)
	}
}

func TestFromGAXFindsTheTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for given, want := range map[time.Duration]time.Duration{
			time.Microsecond: time.Microsecond, 1234567 * time.Microsecond: 1234567 * time.Microsecond, 24 * time.Hour: 24 * time.Hour, 0: 0, -time.Second: 0,
		} {
			var cs reprise.CallSettings
			gaxcall.FromGAX(gax.WithTimeout(given)).Resolve(&cs)
			if cs.Timeout != want {
				t.Errorf("%v: found %v", given, cs.Timeout)
			}
		}
	})
}

func TestGAXOptionsWithoutATimeoutLeaveTheOneThatIsSet(t *testing.T) {
	t.Parallel()
	cs := reprise.CallSettings{Timeout: time.Hour}
	for _, opt := range []gax.CallOption{nil, gax.WithPath("/path"), gax.WithTimeout(0), gax.WithTimeout(-time.Second)} {
		gaxcall.FromGAX(opt).Resolve(&cs)
	}
	if cs.Timeout != time.Hour {
		t.Errorf("the timeout is %v", cs.Timeout)
	}
}

// The state of a call, which the option of ToGAX makes where gax resolves it, is of
// one call here too.
func TestWhatCameFromRepriseComesBackAsItWas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		policy, err := gaxcall.ToGAX(onDown(time.Second), reprise.WithMaxAttempts(3), reprise.WithTimeout(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		send := grpc.MaxCallSendMsgSize(1)
		back := gaxcall.FromGAX(gax.WithTimeout(time.Minute), gax.WithGRPCOptions(send), policy)
		for range 3 {
			attempts := 0
			err := reprise.Invoke(t.Context(), func(ctx context.Context, cs reprise.CallSettings) error {
				attempts++
				if deadline, _ := ctx.Deadline(); time.Until(deadline) < time.Minute {
					t.Errorf("attempt %d has %v left", attempts, time.Until(deadline))
				}
				if !slices.Equal(cs.GRPC, []grpc.CallOption{send}) {
					t.Errorf("gRPC options %v", cs.GRPC)
				}
				return errDown
			}, back)
			if stopped, ok := errors.AsType[*reprise.Error](err); attempts != 3 || !ok || stopped.Reason != reprise.ReasonAttempts {
				t.Errorf("%d attempts, %v", attempts, err)
			}
		}
	})
}

func TestOnHTTPCodes(t *testing.T) {
	t.Parallel()
	r := gaxcall.OnHTTPCodes(steady(time.Second), 429, 503)
	for code, want := range map[int]bool{429: true, 503: true, 500: false, 404: false} {
		if _, ok := r.Retry(&googleapi.Error{Code: code}); ok != want {
			t.Errorf("HTTP %d: %v", code, ok)
		}
	}
	if _, ok := r.Retry(errDown); ok {
		t.Error("a gRPC error is retried")
	}
}
