package otelcall

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise"
)

// spanKey finds the innermost span of one Observer, among those of others.
type spanKey struct{ *Observer }

// start begins a span that end finds by the context returned.
func (o *Observer) start(ctx context.Context, name string, attrs ...attribute.KeyValue) context.Context {
	ctx, span := o.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...))
	return context.WithValue(ctx, spanKey{o}, span)
}

func (o *Observer) startCall(ctx context.Context, e reprise.Event) context.Context {
	return o.start(ctx, "Sent."+spanMethod(e))
}

func (o *Observer) startAttempt(ctx context.Context, e reprise.Event) context.Context {
	return o.start(ctx, "Attempt."+spanMethod(e),
		attribute.Int("previous-rpc-attempts", e.Attempt-1), attribute.Bool("hedge", e.Hedge))
}

// spanMethod is the method's name, or "call" for a call that has none.
func spanMethod(e reprise.Event) string {
	if e.Method == "" {
		return "call"
	}
	return trimSlash(e.Method)
}

// span returns the span that start put into ctx.
func (o *Observer) span(ctx context.Context) trace.Span {
	if span, ok := ctx.Value(spanKey{o}).(trace.Span); ok {
		return span
	}
	return noop.Span{}
}

// pause notes a pause in the call's span.
func (o *Observer) pause(ctx context.Context, e reprise.Event) {
	o.span(ctx).AddEvent("retry", trace.WithAttributes(
		attribute.Int("attempt", e.Attempt),
		attribute.Float64("pause_seconds", e.Pause.Seconds()),
		attribute.String("source", e.Source.String()),
	))
}

// end ends the span of ctx, with the status of err as A72 words it.
func (o *Observer) end(ctx context.Context, err error) {
	span := o.span(ctx)
	if err == nil {
		span.SetStatus(otelcodes.Ok, "")
	} else {
		st := status.Convert(err)
		span.SetStatus(otelcodes.Error, st.Code().String()+", "+st.Message())
	}
	span.End()
}
