// Package otel tests otelcall with the OpenTelemetry SDK, which the library
// itself does not import.
package otel

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/otelcall"
)

const method = "grpc.testing.TestService/EmptyCall"

var retry = reprise.WithRetry(func() reprise.Retryer {
	return reprise.OnUnavailable(reprise.Backoff{Initial: 250 * time.Millisecond, Max: 250 * time.Millisecond, Jitter: reprise.JitterNone})
})

// sinks are the SDK's in-memory ends of an Observer.
type sinks struct {
	*otelcall.Observer

	reader *sdkmetric.ManualReader
	spans  *tracetest.InMemoryExporter
}

func newSinks(t *testing.T) *sinks {
	t.Helper()
	s := &sinks{reader: sdkmetric.NewManualReader(), spans: tracetest.NewInMemoryExporter()}
	var err error
	s.Observer, err = otelcall.NewObserver(nil,
		otelcall.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(s.reader))),
		otelcall.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(s.spans))))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// metrics returns all that was recorded, a line for each series, sorted.
func (s *sinks) metrics(t *testing.T) (lines []string) {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := s.reader.Collect(context.WithoutCancel(t.Context()), &rm); err != nil {
		t.Fatal(err)
	}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			switch h := m.Data.(type) {
			case metricdata.Histogram[int64]:
				for _, p := range h.DataPoints {
					lines = append(lines, fmt.Sprintf("%s %s %v %s: %d in %d calls", m.Name, m.Unit, p.Bounds, labels(p.Attributes), p.Sum, p.Count))
				}
			case metricdata.Histogram[float64]:
				for _, p := range h.DataPoints {
					lines = append(lines, fmt.Sprintf("%s %s %d buckets %s: %v in %d calls", m.Name, m.Unit, len(p.Bounds), labels(p.Attributes), p.Sum, p.Count))
				}
			default:
				lines = append(lines, fmt.Sprintf("%s is a %T", m.Name, m.Data))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func labels(set attribute.Set) string {
	var list []string
	for _, kv := range set.ToSlice() {
		list = append(list, string(kv.Key)+"="+kv.Value.String())
	}
	return strings.Join(list, ",")
}

// tree returns the spans, children indented, with status and events.
func (s *sinks) tree() string {
	spans := s.spans.GetSpans()
	slices.SortStableFunc(spans, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	var b strings.Builder
	var walk func(parent string, indent string)
	walk = func(parent, indent string) {
		for _, sp := range spans {
			id := ""
			if sp.Parent.IsValid() {
				id = sp.Parent.SpanID().String()
			}
			if id != parent {
				continue
			}
			fmt.Fprintf(&b, "%s%s %s %v", indent, sp.Name, sp.SpanKind, sp.EndTime.Sub(sp.StartTime))
			if sp.Status.Code == otelcodes.Error {
				fmt.Fprintf(&b, " %s", sp.Status.Description)
			}
			for _, a := range sp.Attributes {
				fmt.Fprintf(&b, " %s=%s", a.Key, a.Value.String())
			}
			for _, e := range sp.Events {
				fmt.Fprintf(&b, " [%s %s]", e.Name, labels(attribute.NewSet(e.Attributes...)))
			}
			b.WriteByte('\n')
			walk(sp.SpanContext.SpanID().String(), indent+"  ")
		}
	}
	walk("", "")
	return b.String()
}

type server struct {
	testpb.UnimplementedTestServiceServer

	answer func(call int) error
	calls  int
}

func (s *server) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	s.calls++
	return &testpb.Empty{}, s.answer(s.calls)
}

func dial(t *testing.T, lis *bufconn.Listener, opts ...grpc.DialOption) testpb.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///store", append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return testpb.NewTestServiceClient(conn)
}

func serve(t *testing.T, s *server, opts ...grpc.DialOption) testpb.TestServiceClient {
	t.Helper()
	lis, srv := bufconn.Listen(1<<16), grpc.NewServer()
	testpb.RegisterTestServiceServer(srv, s)
	go func() { _ = srv.Serve(lis) }()
	t.Cleanup(srv.Stop)
	return dial(t, lis, append(opts, grpc.WithDisableRetry())...)
}

func TestRetriesAreReportedAsA96AndA72Say(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newSinks(t)
		answers := []error{
			nil, // no retry: nothing is recorded
			status.Error(codes.Unavailable, "down"), status.Error(codes.Unavailable, "down"), nil,
			status.Error(codes.Unavailable, "down"), status.Error(codes.NotFound, "none"),
		}
		client := serve(t, &server{answer: func(n int) error { return answers[n-1] }},
			grpc.WithUnaryInterceptor(reprise.UnaryClientInterceptor(retry, reprise.WithObserver(o))), grpc.WithStatsHandler(o.StatsHandler()))
		for range 3 {
			_, _ = client.EmptyCall(t.Context(), &testpb.Empty{})
		}
		const at = "grpc.method=" + method + ",grpc.target=passthrough:///store"
		want := []string{
			"grpc.client.call.retries {retry} [1 2 3 4 5] " + at + ": 3 in 2 calls",
			"grpc.client.call.retry_delay s 41 buckets " + at + ": 0.75 in 2 calls",
		}
		if got := o.metrics(t); !slices.Equal(got, want) {
			t.Errorf("recorded\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
		const event = " [retry attempt=%d,pause_seconds=0.25,source=backoff]"
		wantTree := "Sent." + method + " client 0s\n" +
			"  Attempt." + method + " client 0s previous-rpc-attempts=0 hedge=false\n" +
			"Sent." + method + " client 500ms" + fmt.Sprintf(event+event, 1, 2) + "\n" +
			"  Attempt." + method + " client 0s Unavailable, down previous-rpc-attempts=0 hedge=false\n" +
			"  Attempt." + method + " client 0s Unavailable, down previous-rpc-attempts=1 hedge=false\n" +
			"  Attempt." + method + " client 0s previous-rpc-attempts=2 hedge=false\n" +
			"Sent." + method + " client 250ms NotFound, none" + fmt.Sprintf(event, 1) + "\n" +
			"  Attempt." + method + " client 0s Unavailable, down previous-rpc-attempts=0 hedge=false\n" +
			"  Attempt." + method + " client 0s NotFound, none previous-rpc-attempts=1 hedge=false\n"
		if got := o.tree(); got != wantTree {
			t.Errorf("the spans are\n%swant\n%s", got, wantTree)
		}
	})
}

func TestHedgesAreReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := newSinks(t), newSinks(t) // two observers do not mix up their spans
		call := reprise.NewUnary(func(ctx context.Context, in *testpb.Empty, _ ...grpc.CallOption) (*testpb.Empty, error) {
			if reprise.AttemptFromContext(ctx) < 3 {
				<-ctx.Done()
			}
			return in, ctx.Err()
		}, reprise.WithHedge(reprise.HedgePolicy{MaxAttempts: 3, Delay: time.Second}), reprise.WithObserver(a), reprise.WithObserver(b))
		if _, err := call.Call(t.Context(), &testpb.Empty{}); err != nil {
			t.Fatal(err)
		}
		for _, o := range []*sinks{a, b} {
			want := []string{"grpc.client.call.hedges {hedge} [1 2 3 4 5] grpc.method=,grpc.target=: 2 in 1 calls"}
			if got := o.metrics(t); !slices.Equal(got, want) {
				t.Errorf("recorded %q, want %q", got, want)
			}
			if n := len(o.spans.GetSpans()); n != 4 {
				t.Errorf("%d spans ended, want the call's and three attempts':\n%s", n, o.tree())
			}
		}
	})
}

func TestARefusedCallLeavesAnEndedSpan(t *testing.T) {
	t.Parallel()
	o := newSinks(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = reprise.Invoke(ctx, func(context.Context, reprise.CallSettings) error { return nil }, reprise.WithObserver(o))
	if got := o.tree(); !strings.HasPrefix(got, "Sent.call client") || !strings.Contains(got, "Canceled, reprise: canceled before the first attempt") {
		t.Errorf("the spans are\n%s", got)
	}
	if got := o.metrics(t); len(got) != 0 {
		t.Errorf("recorded %q", got)
	}
}

func TestTheGlobalProvidersAreTheDefault(t *testing.T) {
	t.Parallel()
	for _, opts := range [][]otelcall.Option{nil, {otelcall.WithMeterProvider(nil), otelcall.WithTracerProvider(nil)}} {
		o, err := otelcall.NewObserver(opts...)
		if err != nil {
			t.Fatal(err)
		}
		if err := reprise.Invoke(t.Context(), func(context.Context, reprise.CallSettings) error { return nil }, reprise.WithObserver(o)); err != nil {
			t.Error(err)
		}
	}
}
