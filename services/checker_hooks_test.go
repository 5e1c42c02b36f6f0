package services_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise/services"
)

func TestHooksHearOfEachNameOverallHealthAndRealUptime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		var sick atomic.Bool
		cfg := services.HealthCheckerConfig{
			Ver: "v1.2", Sha: "0123456789",
			IncVersion: func(_ context.Context, ver, sha string) { j.add("version " + ver + " " + sha) },
			AddUptime:  func(_ context.Context, d time.Duration) { j.add("up " + d.String()) },
			SetStatus:  func(_ context.Context, name string, ok bool) { j.add(fmt.Sprint(name, " ", ok)) },
			Delete:     func(_ context.Context, name string) { j.add("delete " + name) },
			SetHealth:  func(_ context.Context, ok bool) { j.add(fmt.Sprint("health ", ok)) },
		}
		c := started(t, cfg,
			&scripted{name: "a", report: func() map[string]error {
				report := map[string]error{"a": nil, "part": nil}
				if sick.Load() {
					report["part"] = errBoom
				}
				return report
			}},
			&scripted{name: "b"},
		)
		check := func(want string) {
			t.Helper()
			if got := j.String(); got != want {
				t.Errorf("%s\nwant %s", got, want)
			}
			j.lines = nil
		}
		check("version v1.2 0123456, a true, b true, part true, health true")
		sick.Store(true)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		check("up 15s, a true, b true, part false, health false")
		time.Sleep(5 * time.Second)
		if err := c.Register(&scripted{name: "c"}); err != nil {
			t.Error(err)
		}
		check("up 5s, a true, b true, c true, part false, health false")
		if err := errors.Join(c.Unregister("c"), c.Unregister("a")); err != nil {
			t.Error(err)
		}
		check("delete c, a true, b true, part false, health false, delete a, delete part, b true, health true")
		time.Sleep(2 * time.Second)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		check("up 2s, b true, health true")
		if err := c.Unregister("b"); err != nil {
			t.Error(err)
		}
		check("delete b, health true")
		if err := c.Register(&scripted{name: "too late"}); err != nil {
			t.Error(err)
		}
		check("")
	})
}

func TestSubscribersHearEachStatusInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		c := services.NewChecker("", "")
		unsubscribe := c.Subscribe(func(s services.HealthStatus) {
			j.add(fmt.Sprintf("%t/%t %s", s.Running, s.Draining, text(s.Ready)))
		})
		other, running := 0, false
		c.Subscribe(func(s services.HealthStatus) { other++; running = s.Running })
		if err := c.Register(&scripted{name: "a"}); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		c.Drain()
		unsubscribe()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if got, want := j.String(), "false/false , true/false a: <nil>, true/true a: <nil>"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if other != 4 || running {
			t.Errorf("the other subscriber heard %d times, at last that the checker runs: %t", other, running)
		}
	})
}
