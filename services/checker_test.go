package services_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise/services"
)

// started registers services with a checker that runs until the test ends.
func started(t *testing.T, cfg services.HealthCheckerConfig, srvcs ...services.HealthReporter) *services.HealthChecker {
	t.Helper()
	c := cfg.New()
	for _, s := range srvcs {
		if err := c.Register(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, services.ErrAlreadyStopped) {
			t.Error(err)
		}
	})
	return c
}

func text(report map[string]error) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(report)) {
		lines = append(lines, fmt.Sprintf("%s: %v", name, report[name]))
	}
	return strings.Join(lines, ", ")
}

func TestTheCheckerAnswersFromTheLastPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sick, unready atomic.Bool
		svc := &scripted{
			name: "app",
			ready: func() error {
				if unready.Load() {
					return errors.New("busy")
				}
				return nil
			},
			report: func() map[string]error {
				report := map[string]error{"app": nil, "app.part": nil}
				if sick.Load() {
					report["app.part"] = errBoom
				}
				return report
			},
		}
		c := services.NewChecker("v", "s")
		if err := c.Register(svc); err != nil {
			t.Fatal(err)
		}
		if ok, report := c.IsReady(); !ok || report == nil || len(report) != 0 {
			t.Errorf("ready before the start: %t, %v", ok, report)
		}
		if ok, report := c.IsHealthy(); !ok || report == nil || len(report) != 0 {
			t.Errorf("healthy before the start: %t, %v", ok, report)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if ok, report := c.IsHealthy(); !ok || text(report) != "app: <nil>, app.part: <nil>" {
			t.Errorf("%t, %s", ok, text(report))
		}
		sick.Store(true)
		unready.Store(true)
		time.Sleep(15*time.Second - 1)
		synctest.Wait()
		if ok, _ := c.IsHealthy(); !ok {
			t.Error("asked before 15 s had passed")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if ok, report := c.IsHealthy(); ok || text(report) != "app: <nil>, app.part: boom" {
			t.Errorf("%t, %s", ok, text(report))
		}
		ok, report := c.IsReady()
		if ok || text(report) != "app: busy" {
			t.Errorf("%t, %s", ok, text(report))
		}
		delete(report, "app") // a copy
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if ok, report := c.IsReady(); ok || text(report) != "app: busy" {
			t.Errorf("after Close: %t, %s", ok, text(report))
		}
		if err := c.Start(); err == nil || err.Error() != "HealthCheck has already been started once; state=Stopped" {
			t.Error(err)
		}
	})
}

func TestAMisconfiguredRegistrationIsAnError(t *testing.T) {
	t.Parallel()
	c := services.NewChecker("", "")
	if err := c.Register(&scripted{}); err == nil || err.Error() != `misconfigured check "" for *services_test.scripted` {
		t.Error(err)
	}
	if err := c.Register(nil); err == nil {
		t.Error("a nil service was accepted")
	}
	if err := c.Unregister(""); err == nil || err.Error() != "name cannot be empty" {
		t.Error(err)
	}
	if err := c.Unregister("unknown"); err != nil {
		t.Error(err)
	}
	if err := new(services.HealthChecker).Start(); err == nil || !strings.Contains(err.Error(), "not made by NewChecker") {
		t.Error(err)
	}
}

func TestADuplicateRegistrationPanicsInATestAndKeepsNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, services.HealthCheckerConfig{}, &scripted{name: "x"})
		func() {
			defer func() {
				if v := fmt.Sprint(recover()); !strings.Contains(v, `duplicate name "x"`) {
					t.Error(v)
				}
			}()
			_ = c.Register(&scripted{name: "x"})
		}()
		if err := c.Register(&scripted{name: "y"}); err != nil {
			t.Error(err)
		}
		if _, report := c.IsHealthy(); len(report) != 2 {
			t.Error(text(report))
		}
	})
}

func TestALateRegistrationIsAskedAtOnceAndAnUnregistrationForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, services.HealthCheckerConfig{}, &scripted{name: "a"})
		if err := c.Register(&scripted{
			name:   "late",
			ready:  failing(errBoom),
			report: func() map[string]error { return map[string]error{"late": errBoom, "late.part": errBoom} },
		}); err != nil {
			t.Fatal(err)
		}
		if ok, report := c.IsReady(); ok || text(report) != "a: <nil>, late: boom" {
			t.Errorf("%t, %s", ok, text(report))
		}
		if ok, report := c.IsHealthy(); ok || text(report) != "a: <nil>, late: boom, late.part: boom" {
			t.Errorf("%t, %s", ok, text(report))
		}
		if err := c.Unregister("late"); err != nil {
			t.Fatal(err)
		}
		if ok, report := c.IsReady(); !ok || text(report) != "a: <nil>" {
			t.Errorf("%t, %s", ok, text(report))
		}
		if ok, report := c.IsHealthy(); !ok || text(report) != "a: <nil>" {
			t.Errorf("%t, %s", ok, text(report))
		}
	})
}

func TestAPartThatVanishedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gone atomic.Bool
		c := started(t, services.HealthCheckerConfig{Interval: time.Second}, &scripted{name: "a", report: func() map[string]error {
			if gone.Load() {
				return map[string]error{"a": nil}
			}
			return map[string]error{"a": nil, "part": errBoom}
		}})
		gone.Store(true)
		time.Sleep(time.Second)
		synctest.Wait()
		if ok, report := c.IsHealthy(); !ok || text(report) != "a: <nil>" {
			t.Errorf("%t, %s", ok, text(report))
		}
	})
}

func TestServicesAreAskedAtTheSameTimeAndABlockedOneHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		slow := func(name string) *scripted {
			return &scripted{name: name, ready: func() error { time.Sleep(4 * time.Second); return nil }}
		}
		asked := 0
		blocked := &scripted{name: "blocked", ready: func() error { asked++; <-release; return nil }}
		begun := time.Now()
		c := started(t, services.HealthCheckerConfig{}, slow("a"), slow("b"), blocked)
		if took := time.Since(begun); took != 5*time.Second {
			t.Errorf("the start took %v", took)
		}
		if ok, report := c.IsReady(); ok || text(report) != "a: <nil>, b: <nil>, blocked: has not answered for 5s" {
			t.Errorf("%t, %s", ok, text(report))
		}
		if ok, report := c.IsHealthy(); ok || text(report) != "a: <nil>, b: <nil>, blocked: has not answered for 5s" {
			t.Errorf("%t, %s", ok, text(report))
		}
		time.Sleep(34 * time.Second) // two more polls, answered by the others
		synctest.Wait()
		if asked != 1 {
			t.Errorf("asked %d times while it owed an answer", asked)
		}
		close(release)
		synctest.Wait()
		if ok, report := c.IsReady(); !ok {
			t.Errorf("a late answer does not count: %s", text(report))
		}
		if err := c.Unregister("blocked"); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseDoesNotWaitForABlockedService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		var block atomic.Bool
		c := started(t, services.HealthCheckerConfig{}, &scripted{name: "a", report: func() map[string]error {
			if block.Load() {
				<-release
			}
			return map[string]error{"a": nil}
		}})
		block.Store(true)
		time.Sleep(16 * time.Second)
		begun := time.Now()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

func TestCloseIsTheLastThatIsToldAlsoDuringAPoll(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			defer close(release)
			var block, closed atomic.Bool
			cfg := services.HealthCheckerConfig{SetHealth: func(context.Context, bool) {
				if closed.Load() {
					t.Error("a hook was called after Close had returned")
				}
			}}
			c := started(t, cfg, &scripted{name: "a", ready: func() error {
				if block.Load() {
					<-release
				}
				return nil
			}})
			var last services.HealthStatus
			c.Subscribe(func(s services.HealthStatus) { last = s })
			block.Store(true)
			time.Sleep(16 * time.Second)
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			closed.Store(true)
			synctest.Wait()
			if last.Running {
				t.Error("runs after Close")
			}
		})
	}
}

func TestAServiceThatPanicsOrExitsIsUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, services.HealthCheckerConfig{},
			&scripted{name: "panics", report: func() map[string]error { panic(errBoom) }},
			&scripted{name: "exits", ready: exiting},
		)
		for _, is := range []func() (bool, map[string]error){c.IsReady, c.IsHealthy} {
			if ok, report := is(); ok || text(report) != "exits: ended its goroutine without returning, panics: panic: boom" {
				t.Errorf("%t, %s", ok, text(report))
			}
		}
	})
}

func TestTheCheckerAsAService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		c := services.NewChecker("", "")
		svc := c.Service()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := svc.Start(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := svc.Ready(); !errors.Is(err, services.ErrNotStarted) {
			t.Error(err)
		}
		if err := c.Register(&scripted{name: "blocked", ready: func() error { <-release; return nil }}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if err := svc.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("the start went on for %v beyond its context", took)
		}
		if ok, report := c.IsReady(); ok || text(report) != "blocked: has not answered yet" {
			t.Errorf("%t, %s", ok, text(report))
		}
		if svc.Name() != "HealthCheck" || text(svc.HealthReport()) != "HealthCheck: <nil>" || svc.Ready() != nil {
			t.Error(svc.Name(), svc.HealthReport(), svc.Ready())
		}
		if err := svc.Close(); err != nil {
			t.Error(err)
		}
	})
}
