package otelhealth_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/reprise-go/reprise/otelcall/otelhealth"
	"github.com/reprise-go/reprise/services"
)

// What the instruments record is tested with the SDK, in module integration.

var errBroken = errors.New("broken")

// brokenMeter fails to make one kind of thing.
type brokenMeter struct {
	noop.Meter

	gauge, uptime, version, callback bool
}

func (m brokenMeter) Int64ObservableGauge(string, ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	return noop.Int64ObservableGauge{}, errorIf(m.gauge)
}

func (m brokenMeter) Float64Counter(string, ...metric.Float64CounterOption) (metric.Float64Counter, error) {
	return noop.Float64Counter{}, errorIf(m.uptime)
}

func (m brokenMeter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return noop.Int64Counter{}, errorIf(m.version)
}

func (m brokenMeter) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	return noop.Registration{}, errorIf(m.callback)
}

func errorIf(broken bool) error {
	if broken {
		return errBroken
	}
	return nil
}

func TestAMeterThatFailsIsReported(t *testing.T) {
	t.Parallel()
	for name, meter := range map[string]brokenMeter{
		"gauge": {gauge: true}, "uptime": {uptime: true}, "version": {version: true}, "callback": {callback: true},
	} {
		if _, err := otelhealth.New(meter); !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := otelhealth.New(nil); err == nil {
		t.Error("a nil meter was accepted")
	}
}

func TestHooksThatWereSetAreStillCalled(t *testing.T) {
	t.Parallel()
	metrics, err := otelhealth.New(noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	calls := make(map[string]int)
	cfg := metrics.Configure(services.HealthCheckerConfig{
		IncVersion: func(context.Context, string, string) { calls["version"]++ },
		AddUptime:  func(context.Context, time.Duration) { calls["uptime"]++ },
		SetStatus:  func(context.Context, string, bool) { calls["status"]++ },
		Delete:     func(context.Context, string) { calls["delete"]++ },
		SetHealth:  func(context.Context, bool) { calls["health"]++ },
	})
	for range 2 {
		cfg.IncVersion(t.Context(), "v", "s")
		cfg.AddUptime(t.Context(), time.Second)
		cfg.SetStatus(t.Context(), "a", true)
		cfg.Delete(t.Context(), "a")
		cfg.SetHealth(t.Context(), true)
		cfg = metrics.Configure(cfg)
	}
	for _, name := range []string{"version", "uptime", "status", "delete", "health"} {
		if calls[name] != 2 {
			t.Errorf("%s: %d calls", name, calls[name])
		}
	}
	if err := metrics.Close(); err != nil {
		t.Error(err)
	}
}

func ExampleNew() { //nolint:testableexamples // what it shows is the wiring
	meter := noop.NewMeterProvider().Meter("example.com/app") // the program's own provider
	metrics, err := otelhealth.New(meter)
	if err != nil {
		return
	}
	defer metrics.Close()
	checker := metrics.Configure(services.HealthCheckerConfig{Interval: 10 * time.Second}).New()
	if err := checker.Start(); err != nil {
		return
	}
	defer checker.Close()
}
