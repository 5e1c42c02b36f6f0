package otelcall_test

import (
	"log"

	"go.opentelemetry.io/otel"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/otelcall"
)

// One Observer serves a whole program. Without options it reports to the global
// providers, which the program's SDK has set.
func ExampleNewObserver() {
	obs, err := otelcall.NewObserver(
		otelcall.WithMeterProvider(otel.GetMeterProvider()),
		otelcall.WithTracerProvider(otel.GetTracerProvider()),
	)
	if err != nil {
		log.Print(err)
		return
	}
	conn, err := grpc.NewClient("dns:///orders.example.com:443",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(reprise.UnaryClientInterceptor(reprise.Recommended(), reprise.WithObserver(obs))),
		grpc.WithStatsHandler(obs.StatsHandler()),
		grpc.WithDisableRetry(),
	)
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = conn.Close() }()
}
