// Package otelhealth_test looks at what otelcall/otelhealth records through the
// OpenTelemetry SDK.
package otelhealth_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"

	"github.com/reprise-go/reprise/otelcall/otelhealth"
	"github.com/reprise-go/reprise/services"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type part struct {
	name string
	sick atomic.Bool
}

func (p *part) Name() string { return p.name }
func (p *part) Ready() error { return nil }
func (p *part) HealthReport() map[string]error {
	report := map[string]error{p.name: nil, p.name + ".disk": nil}
	if p.sick.Load() {
		report[p.name+".disk"] = errors.New("full")
	}
	return report
}

// collect returns every data point as a line, sorted.
func collect(t *testing.T, reader *sdkmetric.ManualReader) string {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	var lines []string
	add := func(name string, set attribute.Set, value any) {
		line := name
		for _, kv := range set.ToSlice() {
			line += fmt.Sprintf(" %s=%s", kv.Key, kv.Value.AsString())
		}
		lines = append(lines, fmt.Sprint(line, " ", value))
	}
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, p.Value)
				}
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, p.Value)
				}
			case metricdata.Sum[float64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, p.Value)
				}
			default:
				t.Errorf("%s is a %T", m.Name, data)
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestTheSDKCollectsWhatTheCheckerSees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := sdkmetric.NewManualReader()
		provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		metrics, err := otelhealth.New(provider.Meter("test"))
		if err != nil {
			t.Fatal(err)
		}
		if got := collect(t, reader); got != "" {
			t.Errorf("before the start:\n%s", got)
		}
		c := metrics.Configure(services.HealthCheckerConfig{Ver: "v1.2.3", Sha: "0123456789"}).New()
		a, b := &part{name: "a"}, &part{name: "b"}
		b.sick.Store(true)
		if err := errors.Join(c.Register(a), c.Register(b), c.Start()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		want := `reprise.program.health 0
reprise.program.uptime 30
reprise.program.version commit=0123456 version=v1.2.3 1
reprise.service.health reprise.service.name=a 1
reprise.service.health reprise.service.name=a.disk 1
reprise.service.health reprise.service.name=b 1
reprise.service.health reprise.service.name=b.disk 0`
		if got := collect(t, reader); got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
		if err := c.Unregister("b"); err != nil {
			t.Error(err)
		}
		want = `reprise.program.health 1
reprise.program.uptime 30
reprise.program.version commit=0123456 version=v1.2.3 1
reprise.service.health reprise.service.name=a 1
reprise.service.health reprise.service.name=a.disk 1`
		if got := collect(t, reader); got != want {
			t.Errorf("a service that was unregistered:\n%s\nwant\n%s", got, want)
		}
		if err := errors.Join(c.Close(), metrics.Close()); err != nil {
			t.Error(err)
		}
		if got := collect(t, reader); strings.Contains(got, "health") {
			t.Errorf("observed after Close:\n%s", got)
		}
		if err := provider.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
