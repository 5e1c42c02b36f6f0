package otelcall

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/reprise-go/reprise"
)

// metrics are the per-call retry metrics of gRPC A96, with its names, units
// and buckets.
type metrics struct {
	retries, transparent, hedges metric.Int64Histogram
	delay                        metric.Float64Histogram
}

func newMetrics(m metric.Meter) (s metrics, err error) {
	count := metric.WithExplicitBucketBoundaries(1, 2, 3, 4, 5)
	if s.retries, err = m.Int64Histogram("grpc.client.call.retries", metric.WithUnit("{retry}"), count,
		metric.WithDescription("Number of retries during the client call. If there were no retries, 0 is not reported.")); err != nil {
		return s, err
	}
	if s.transparent, err = m.Int64Histogram("grpc.client.call.transparent_retries", metric.WithUnit("{transparent_retry}"),
		metric.WithExplicitBucketBoundaries(1, 2, 3, 4, 5, 10),
		metric.WithDescription("Number of transparent retries during the client call. If there were none, 0 is not reported.")); err != nil {
		return s, err
	}
	if s.hedges, err = m.Int64Histogram("grpc.client.call.hedges", metric.WithUnit("{hedge}"), count,
		metric.WithDescription("Number of hedges during the client call. If there were no hedges, 0 is not reported.")); err != nil {
		return s, err
	}
	s.delay, err = m.Float64Histogram("grpc.client.call.retry_delay", metric.WithUnit("s"),
		// The latency buckets of A66.
		metric.WithExplicitBucketBoundaries(0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005,
			0.006, 0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4,
			0.5, 0.65, 0.8, 1, 2, 5, 10, 20, 50, 100),
		metric.WithDescription("Total time of delay while there is no active attempt during the client call."))
	return s, err
}

// record takes the end of a call.
func (s *metrics) record(ctx context.Context, e reprise.Event, transparent int64) {
	labels := metric.WithAttributeSet(attribute.NewSet(
		attribute.String("grpc.method", trimSlash(e.Method)), attribute.String("grpc.target", e.Target)))
	if more := int64(e.Attempt) - 1; more > 0 {
		if e.Hedge {
			s.hedges.Record(ctx, more, labels)
		} else {
			s.retries.Record(ctx, more, labels)
		}
	}
	if transparent > 0 {
		s.transparent.Record(ctx, transparent, labels)
	}
	if e.Pause > 0 {
		s.delay.Record(ctx, e.Pause.Seconds(), labels)
	}
}

// trimSlash turns the full name of a method into the form that gRPC's own
// metrics (A66) and spans (A72) use.
func trimSlash(method string) string {
	if len(method) > 0 && method[0] == '/' {
		return method[1:]
	}
	return method
}
