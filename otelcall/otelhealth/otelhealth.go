// Package otelhealth records what a [services.HealthChecker] sees as
// OpenTelemetry metrics. It needs the API of OpenTelemetry alone; the program
// brings the SDK and the exporter.
//
//	metrics, err := otelhealth.New(provider.Meter("example.com/app"))
//	…
//	defer metrics.Close()
//	checker := metrics.Configure(services.HealthCheckerConfig{}).New()
//
// The instruments:
//
//	reprise.service.health   gauge, 1 or 0, for each name of the reports (attribute reprise.service.name)
//	reprise.program.health   gauge, 1 if all names are healthy and 0 if not
//	reprise.program.uptime   counter, seconds since the checker was started
//	reprise.program.version  counter, 1 for each start (attributes version, commit)
//
// A name that vanishes from the reports vanishes from the next collection.
package otelhealth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/reprise-go/reprise/services"
)

// Metrics are the instruments of one program. They are safe for concurrent use.
type Metrics struct {
	uptime       metric.Float64Counter
	version      metric.Int64Counter
	registration metric.Registration

	mu       sync.Mutex
	services map[string]bool
	program  *bool // nil before the first poll
}

// New makes the instruments.
func New(meter metric.Meter) (*Metrics, error) {
	if meter == nil {
		return nil, errors.New("otelhealth: the meter is nil")
	}
	m := &Metrics{services: make(map[string]bool)}
	service, serviceErr := meter.Int64ObservableGauge("reprise.service.health",
		metric.WithDescription("Whether the service is healthy."), metric.WithUnit("1"))
	program, programErr := meter.Int64ObservableGauge("reprise.program.health",
		metric.WithDescription("Whether every service is healthy."), metric.WithUnit("1"))
	var uptimeErr, versionErr error
	m.uptime, uptimeErr = meter.Float64Counter("reprise.program.uptime",
		metric.WithDescription("Time since the health checker was started."), metric.WithUnit("s"))
	m.version, versionErr = meter.Int64Counter("reprise.program.version",
		metric.WithDescription("Starts of the program, by version and commit."), metric.WithUnit("{start}"))
	if err := errors.Join(serviceErr, programErr, uptimeErr, versionErr); err != nil {
		return nil, fmt.Errorf("otelhealth: %w", err)
	}
	var err error
	m.registration, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		m.observe(o, service, program)
		return nil
	}, service, program)
	if err != nil {
		return nil, fmt.Errorf("otelhealth: %w", err)
	}
	return m, nil
}

// Configure returns cfg with hooks that record, each called after the one that
// cfg had, if any. It is meant for one checker.
func (m *Metrics) Configure(cfg services.HealthCheckerConfig) services.HealthCheckerConfig {
	had := cfg
	cfg.IncVersion = func(ctx context.Context, ver, sha string) {
		if had.IncVersion != nil {
			had.IncVersion(ctx, ver, sha)
		}
		m.version.Add(ctx, 1, metric.WithAttributes(attribute.String("version", ver), attribute.String("commit", sha)))
	}
	cfg.AddUptime = func(ctx context.Context, d time.Duration) {
		if had.AddUptime != nil {
			had.AddUptime(ctx, d)
		}
		m.uptime.Add(ctx, d.Seconds())
	}
	cfg.SetStatus = func(ctx context.Context, name string, healthy bool) {
		if had.SetStatus != nil {
			had.SetStatus(ctx, name, healthy)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.services[name] = healthy
	}
	cfg.Delete = func(ctx context.Context, name string) {
		if had.Delete != nil {
			had.Delete(ctx, name)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.services, name)
	}
	cfg.SetHealth = func(ctx context.Context, healthy bool) {
		if had.SetHealth != nil {
			had.SetHealth(ctx, healthy)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.program = &healthy
	}
	return cfg
}

// Close ends the observation of health. What was counted stays.
func (m *Metrics) Close() error { return m.registration.Unregister() }

func (m *Metrics) observe(o metric.Observer, service, program metric.Int64Observable) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, healthy := range m.services {
		o.ObserveInt64(service, oneIf(healthy), metric.WithAttributes(attribute.String("reprise.service.name", name)))
	}
	if m.program != nil {
		o.ObserveInt64(program, oneIf(*m.program))
	}
}

func oneIf(ok bool) int64 {
	if ok {
		return 1
	}
	return 0
}
