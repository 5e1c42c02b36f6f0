package services_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise/services"
)

// steered runs a service whose Run is the given steps, one for each send to
// the returned channel.
func steered(t *testing.T, cfg services.Config) (services.Service, chan<- func(*services.Status) error) {
	t.Helper()
	steps := make(chan func(*services.Status) error)
	cfg.Name = "svc"
	cfg.Run = func(ctx context.Context, status *services.Status) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case step := <-steps:
				if err := step(status); err != nil {
					return err
				}
			}
		}
	}
	return launch(t, cfg), steps
}

func TestReadinessIsWhatRunSays(t *testing.T) {
	for manual, initially := range map[bool]string{true: "not ready yet", false: ""} {
		synctest.Test(t, func(t *testing.T) {
			s, steps := steered(t, services.Config{ManualReady: manual, Restart: doubling(0)})
			expect := func(want string) {
				t.Helper()
				synctest.Wait()
				got := ""
				if err := s.Ready(); err != nil {
					got = err.Error()
				}
				if got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}
			if got := s.Ready(); (got != nil) != manual {
				t.Errorf("before Run was called: %v", got)
			}
			expect(initially)
			steps <- func(st *services.Status) error { st.Ready(nil); return nil }
			expect("")
			steps <- func(st *services.Status) error { st.Ready(errors.New("connecting")); return nil }
			expect("connecting")
			steps <- func(st *services.Status) error { st.Ready(nil); return errBoom }
			expect("run 1 failed, the next begins in 1s: boom")
			time.Sleep(time.Second)
			expect(initially)
		})
	}
}

func TestConditionsStayUntilClearedAndReportsAreSeenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, steps := steered(t, services.Config{Restart: doubling(0)})
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := text(s.HealthReport()); got != "svc: "+want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		expect("<nil>")
		var first *services.Status
		steps <- func(st *services.Status) error {
			first = st
			st.Set("stale", errors.New("nothing heard"))
			st.Set("disk", errors.New("full"))
			st.Set("fine", nil)
			st.Report(errors.New("once"))
			st.Report(nil)
			return nil
		}
		expect("once\ndisk: full\nstale: nothing heard")
		expect("disk: full\nstale: nothing heard")
		if err := s.Ready(); err != nil {
			t.Errorf("a condition is about health: %v", err)
		}
		steps <- func(st *services.Status) error { st.Set("disk", nil); return nil }
		expect("stale: nothing heard")
		steps <- func(*services.Status) error { return errBoom }
		expect("run 1 failed, the next begins in 1s: boom")
		expect("run 1 failed, the next begins in 1s: boom") // as long as it holds
		time.Sleep(time.Second)
		expect("<nil>") // seen, and the new run begins clean
		first.Report(errors.New("from the past"))
		first.Set("old", errBoom)
		first.Ready(errBoom)
		expect("<nil>")
		if err := s.Ready(); err != nil {
			t.Error(err)
		}
	})
}

func TestAFailureBetweenTwoReportsIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, steps := steered(t, services.Config{Restart: doubling(0)})
		for range 2 {
			steps <- func(*services.Status) error { return errBoom }
			time.Sleep(time.Minute / 2)
		}
		synctest.Wait()
		if got := text(s.HealthReport()); got != "svc: run 1 failed, the next begins in 1s: boom\nrun 2 failed, the next begins in 2s: boom" {
			t.Error(got)
		}
		if got := text(s.HealthReport()); got != "svc: <nil>" {
			t.Error(got)
		}
	})
}

func TestAServiceSpeaksForItsParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		part := &scripted{
			name: "svc.part", j: &j, ready: failing(errors.New("cold")),
			report: func() map[string]error {
				return map[string]error{"svc.part": errors.New("sick"), "svc.part.x": nil, "svc": errors.New("says the part")}
			},
		}
		s := launch(t, services.Config{Name: "svc", Subs: []services.Service{part}})
		if err := s.Ready(); err == nil || err.Error() != "svc.part: cold" {
			t.Error(err)
		}
		if got := text(s.HealthReport()); got != "svc: says the part, svc.part: sick, svc.part.x: <nil>" {
			t.Error(got)
		}
	})
}

func TestAServiceEndsWithAPartThatGaveUpAndIsDoneWhenAllAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := func(after time.Duration, err error) services.Config {
			return services.Config{Name: "svc", Run: func(ctx context.Context, _ *services.Status) error {
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(after):
					return err
				}
			}}
		}
		part := func(name string, after time.Duration, err error) services.Service {
			cfg := run(after, err)
			cfg.Name = name
			return services.New(cfg)
		}
		var j journal
		for name, c := range map[string]struct {
			cfg  services.Config
			subs []services.Service
			want string
			at   time.Duration
		}{
			"a part gives up":      {run(time.Hour, nil), []services.Service{part("p", time.Second, errBoom)}, "p: gave up after run 1: boom", time.Second},
			"itself gives up":      {run(time.Second, errBoom), []services.Service{part("p", time.Hour, nil)}, "svc: gave up after run 1: boom", time.Second},
			"both give up":         {run(2*time.Second, errBoom), []services.Service{part("p", time.Second, errBoom)}, "p: gave up after run 1: boom", time.Second},
			"both are done":        {run(time.Second, nil), []services.Service{part("p", time.Minute, nil)}, "<nil>", time.Minute},
			"a part never ends":    {run(time.Second, nil), []services.Service{part("p", 2*time.Hour, nil)}, "", 0},
			"a part cannot end":    {run(time.Second, nil), []services.Service{&scripted{name: "p", j: &j}}, "", 0},
			"without a run":        {services.Config{Name: "svc"}, []services.Service{part("p", time.Second, nil)}, "", 0},
			"a part that gives up": {services.Config{Name: "svc"}, []services.Service{part("p", time.Second, errBoom)}, "p: gave up after run 1: boom", time.Second},
		} {
			begun := time.Now()
			c.cfg.Subs = c.subs
			s := launch(t, c.cfg)
			got := ""
			select {
			case <-s.(services.Ender).Done():
				got = "<nil>"
				if err := s.(services.Ender).Err(); err != nil {
					got = err.Error()
				}
				if took := time.Since(begun); took != c.at {
					t.Errorf("%s: at %v", name, took)
				}
			case <-time.After(time.Hour - time.Second):
			}
			if got != c.want {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
			time.Sleep(time.Minute)
			if err := s.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
