package otelcall

import (
	"context"
	"errors"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/stats"

	"github.com/reprise-go/reprise"
)

// scope is the instrumentation scope of the metrics and spans.
const scope = "github.com/reprise-go/reprise/otelcall"

// Observer reports calls to OpenTelemetry. It is safe for concurrent use; one
// serves a whole program.
//
// The metrics are those of gRPC A96. Each is recorded once for each call, and
// not at all where its value would be zero, as A96 says. They bear the labels
// grpc.method and grpc.target, which interceptors fill in; bound calls name
// theirs by reprise.WithMethod.
//
//   - grpc.client.call.retries: retries of the call, without hedges and
//     transparent retries.
//   - grpc.client.call.hedges: hedged attempts beside the first.
//   - grpc.client.call.transparent_retries: attempts that grpc-go made again by
//     itself because they had not reached the server's application. They are
//     seen only with the StatsHandler.
//   - grpc.client.call.retry_delay: seconds that the call spent waiting between
//     attempts.
//
// The spans are those of A72: "Sent.package.Service/Method" for the call and,
// within it, "Attempt.package.Service/Method" for each attempt.
//
// Only [NewObserver] makes one that reports; nil and the zero Observer do
// nothing.
type Observer struct {
	metrics metrics
	tracer  trace.Tracer
}

// Option sets up an [Observer].
type Option func(c *config)

type config struct {
	meters  metric.MeterProvider
	tracers trace.TracerProvider
}

// WithMeterProvider takes the meter from p instead of the global provider. Nil
// stands for the global one.
func WithMeterProvider(p metric.MeterProvider) Option { return func(c *config) { c.meters = p } }

// WithTracerProvider takes the tracer from p instead of the global provider.
// Nil stands for the global one.
func WithTracerProvider(p trace.TracerProvider) Option { return func(c *config) { c.tracers = p } }

// NewObserver returns an Observer. The error is that of the meter, if it
// cannot make an instrument.
func NewObserver(opts ...Option) (*Observer, error) {
	var c config
	for _, opt := range opts {
		if opt != nil {
			opt(&c)
		}
	}
	if c.meters == nil {
		c.meters = otel.GetMeterProvider()
	}
	if c.tracers == nil {
		c.tracers = otel.GetTracerProvider()
	}
	o := &Observer{tracer: c.tracers.Tracer(scope, trace.WithInstrumentationVersion(reprise.Version))}
	m, err := newMetrics(c.meters.Meter(scope, metric.WithInstrumentationVersion(reprise.Version)))
	if err != nil {
		return nil, errors.Join(errors.New("otelcall: cannot make the instruments"), err)
	}
	o.metrics = m
	return o, nil
}

// callState is what an Observer remembers of a call, in the call's context.
type callState struct{ transparent atomic.Int64 }

// callStateKey finds the state that one Observer keeps of a call, among those
// of several.
type callStateKey struct{ *Observer }

// CallContext begins the call's span.
func (o *Observer) CallContext(ctx context.Context, e reprise.Event) context.Context {
	if o.idle() {
		return ctx
	}
	return o.startCall(context.WithValue(ctx, callStateKey{o}, new(callState)), e)
}

// AttemptContext begins the attempt's span.
func (o *Observer) AttemptContext(ctx context.Context, e reprise.Event) context.Context {
	if o.idle() {
		return ctx
	}
	return o.startAttempt(ctx, e)
}

// Observe ends spans and records metrics.
func (o *Observer) Observe(ctx context.Context, e reprise.Event) {
	if o.idle() {
		return
	}
	switch e.Kind {
	case reprise.EventAttempt:
		o.end(ctx, e.Err)
	case reprise.EventPause:
		o.pause(ctx, e)
	case reprise.EventEnd:
		var transparent int64
		if s, ok := ctx.Value(callStateKey{o}).(*callState); ok {
			transparent = s.transparent.Load()
		}
		o.metrics.record(ctx, e, transparent)
		o.end(ctx, e.Err)
	}
}

func (o *Observer) idle() bool { return o == nil || o.tracer == nil }

// StatsHandler returns a gRPC stats handler that counts the transparent
// retries of the calls that o observes.
func (o *Observer) StatsHandler() stats.Handler { return statsHandler{o} }

type statsHandler struct{ observer *Observer }

func (h statsHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (h statsHandler) HandleRPC(ctx context.Context, s stats.RPCStats) {
	b, ok := s.(*stats.Begin)
	if !ok || !b.IsTransparentRetryAttempt {
		return
	}
	if c, ok := ctx.Value(callStateKey{h.observer}).(*callState); ok {
		c.transparent.Add(1)
	}
}

func (h statsHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (h statsHandler) HandleConn(context.Context, stats.ConnStats) {}
