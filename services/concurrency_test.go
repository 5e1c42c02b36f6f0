package services_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/services"
)

// For the race detector: everything at once, and nothing blocks for ever.

func TestTheCheckerIsSafeForConcurrentUse(t *testing.T) {
	leakFree(t)
	c := started(t, services.HealthCheckerConfig{
		Interval:  time.Millisecond,
		SetStatus: func(context.Context, string, bool) {},
		Delete:    func(context.Context, string) {},
	}, &scripted{name: "stays", ready: failing(errBoom)})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				name := fmt.Sprint(g, " ", i)
				if err := c.Register(&scripted{name: name}); err != nil {
					t.Error(err)
				}
				if _, report := c.IsReady(); report[name] != nil || len(report) == 0 {
					t.Errorf("%s: %v", name, report[name])
				}
				ask(t, c, http.MethodGet, "/readyz?verbose")
				unsubscribe := c.Subscribe(func(services.HealthStatus) {})
				if i == 25 {
					c.Drain()
				}
				unsubscribe()
				if err := c.Unregister(name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, report := c.IsHealthy(); text(report) != "stays: <nil>" {
		t.Error(text(report))
	}
}

func TestASupervisedServiceIsSafeForConcurrentUse(t *testing.T) {
	leakFree(t)
	for range 50 {
		runs := 0
		s := services.New(services.Config{
			Name: "svc",
			Run: func(_ context.Context, status *services.Status) error {
				status.Set("run", errBoom)
				status.Report(errBoom)
				if runs++; runs < 100 {
					return errBoom
				}
				return nil
			},
			Restart: func() reprise.Retryer {
				return reprise.OnErrorFunc(reprise.Backoff{Initial: time.Microsecond, Max: time.Microsecond}, func(error) bool { return true })
			},
		})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				_ = s.Start(t.Context()) // one of them is the first
				for range 50 {
					_ = s.Ready()
					_ = s.HealthReport()
				}
				_ = s.(services.Ender).Err()
				if err := s.Close(); err != nil && !errors.Is(err, services.ErrAlreadyStopped) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := s.Ready(); !errors.Is(err, services.ErrNotStarted) {
			t.Error(err)
		}
	}
}
