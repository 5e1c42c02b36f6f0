// Package otelcall reports calls to OpenTelemetry: an [Observer] for
// reprise.WithObserver that records the client retry metrics of gRPC A96, and
// spans for calls and their attempts in the form of gRPC A72.
//
//	obs, err := otelcall.NewObserver(otelcall.WithMeterProvider(meters), otelcall.WithTracerProvider(tracers))
//	if err != nil {
//		return err
//	}
//	conn, err := grpc.NewClient(target,
//		grpc.WithUnaryInterceptor(reprise.UnaryClientInterceptor(policy, reprise.WithObserver(obs))),
//		grpc.WithStatsHandler(obs.StatsHandler()), // for the transparent retries
//		grpc.WithDisableRetry())
//
// It uses the OpenTelemetry API alone; which SDK exports what is reported is
// the program's choice.
package otelcall
