package services_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/services"
)

// doubling retries every error after 1 s, 2 s, 4 s, …; at most the given
// number of times if it is positive.
func doubling(limit int) func() reprise.Retryer {
	return func() reprise.Retryer {
		left := limit
		return reprise.OnErrorFunc(
			reprise.Backoff{Initial: time.Second, Max: time.Hour, Jitter: reprise.JitterNone},
			func(error) bool { left--; return limit <= 0 || left >= 0 })
	}
}

func launch(t *testing.T, cfg services.Config) services.Service {
	t.Helper()
	s := services.New(cfg)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		closed := errors.Is(s.Ready(), services.ErrNotStarted)
		if err := s.Close(); err != nil && !closed {
			t.Error(err)
		}
	})
	return s
}

func TestAFailedRunIsRestartedAfterThePausesOfItsPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		begun := time.Now()
		runs := 0
		launch(t, services.Config{
			Name: "svc",
			Run: func(ctx context.Context, _ *services.Status) error {
				runs++
				j.add(fmt.Sprint("run at ", time.Since(begun)))
				switch runs {
				case 1:
					return errBoom
				case 2:
					panic("ouch")
				case 4: // stable
					time.Sleep(time.Minute)
					return errBoom
				case 5: // nearly
					time.Sleep(time.Minute - 1)
					return errBoom
				case 6:
					<-ctx.Done()
					return errors.New("late")
				}
				return errBoom
			},
			Restart: doubling(0),
			OnEvent: func(e services.Event) {
				j.add(fmt.Sprintf("%s %v #%d ran %v: %v; pause %v", e.Service, e.Kind, e.Attempt, e.Ran, e.Err, e.Pause))
			},
		})
		time.Sleep(time.Hour)
		synctest.Wait()
		want := "run at 0s, svc restarting #1 ran 0s: boom; pause 1s, " +
			"run at 1s, svc restarting #2 ran 0s: panic: ouch; pause 2s, " +
			"run at 3s, svc restarting #3 ran 0s: boom; pause 4s, " +
			"run at 7s, svc restarting #4 ran 1m0s: boom; pause 1s, " +
			"run at 1m8s, svc restarting #5 ran 59.999999999s: boom; pause 2s, " +
			"run at 2m9.999999999s"
		if got := j.String(); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
}

func TestAServiceThatIsGivenUpEndsWithATypedError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			cfg     services.Config
			attempt int
			text    string
			is      error
		}{
			"the policy declines": {
				services.Config{Run: failingRun, Restart: doubling(2)}, 3, "svc: gave up after run 3: boom", errBoom,
			},
			"no policy":        {services.Config{Run: failingRun}, 1, "svc: gave up after run 1: boom", errBoom},
			"a factory of nil": {services.Config{Run: failingRun, Restart: func() reprise.Retryer { return nil }}, 1, "svc: gave up after run 1: boom", errBoom},
			"a panic":          {services.Config{Run: func(context.Context, *services.Status) error { panic(errBoom) }}, 1, "svc: gave up after run 1: panic: boom", errBoom},
			"an exit":          {services.Config{Run: func(context.Context, *services.Status) error { return exiting() }, Restart: doubling(0)}, 1, "svc: gave up after run 1: ended its goroutine without returning", services.ErrGaveUp},
			"a run that is never stable": {
				services.Config{Stable: -1, Restart: doubling(1), Run: func(context.Context, *services.Status) error { time.Sleep(time.Hour); return errBoom }},
				2, "svc: gave up after run 2: boom", errBoom,
			},
		} {
			var last services.Event
			c.cfg.Name, c.cfg.OnEvent = "svc", func(e services.Event) { last = e }
			s := launch(t, c.cfg)
			ender := s.(services.Ender)
			<-ender.Done()
			synctest.Wait()
			var gave *services.GaveUpError
			if err := ender.Err(); !errors.As(err, &gave) || err.Error() != c.text || !errors.Is(err, services.ErrGaveUp) || !errors.Is(err, c.is) {
				t.Errorf("%s: %v", name, err)
			} else if gave.Attempt != c.attempt || gave.Service != "svc" {
				t.Errorf("%s: %+v", name, gave)
			}
			if last.Kind != services.EventGaveUp || last.Pause >= 0 || last.Attempt != c.attempt {
				t.Errorf("%s: %+v", name, last)
			}
			if err := s.Ready(); !errors.Is(err, services.ErrGaveUp) {
				t.Errorf("%s: ready: %v", name, err)
			}
			for range 2 { // stays
				if report := s.HealthReport(); !errors.Is(report["svc"], services.ErrGaveUp) {
					t.Errorf("%s: %v", name, report)
				}
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s: closing: %v", name, err)
			}
		}
	})
}

func failingRun(context.Context, *services.Status) error { return errBoom }

func TestARunThatIsDoneEndsWithoutAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last services.Event
		s := launch(t, services.Config{
			Name: "svc", Run: func(context.Context, *services.Status) error { return nil },
			Restart: doubling(0), OnEvent: func(e services.Event) { last = e },
		})
		<-s.(services.Ender).Done()
		synctest.Wait()
		if err := s.(services.Ender).Err(); err != nil || last.Kind != services.EventDone || last.Attempt != 1 {
			t.Errorf("%v, %+v", err, last)
		}
		if s.Ready() != nil || s.HealthReport()["svc"] != nil {
			t.Error(s.Ready(), s.HealthReport())
		}
	})
}

func TestCloseStopsARunAndWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		var cause error
		s := launch(t, services.Config{
			Name: "svc",
			Run: func(ctx context.Context, _ *services.Status) error {
				<-ctx.Done()
				cause = context.Cause(ctx)
				time.Sleep(time.Second)
				j.add("run ends")
				return ctx.Err()
			},
			Restart: doubling(0),
			Close:   func() error { j.add("hook"); return errBoom },
			Subs:    []services.Service{&scripted{name: "sub", j: &j, onClose: failing(errors.New("sub failed"))}},
			OnEvent: func(e services.Event) { j.add(fmt.Sprint(e.Kind, " ", e.Err, " ", e.Ran, " ", e.Pause < 0)) },
		})
		time.Sleep(time.Second)
		err := s.Close()
		if err == nil || err.Error() != "boom\nsub failed" {
			t.Error(err)
		}
		if cause != services.ErrStopped { //nolint:errorlint // exactly this
			t.Error(cause)
		}
		if got, want := j.String(), "start sub, run ends, stopped context canceled 2s true, hook, close sub"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if err := s.Ready(); !errors.Is(err, services.ErrNotStarted) {
			t.Error(err)
		}
		select {
		case <-s.(services.Ender).Done():
			t.Error("a closed service has not ended by itself")
		default:
		}
	})
}

func TestClosingDuringAPauseWakesAtOnceAndTellsNoRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		s := launch(t, services.Config{
			Name: "svc", Run: func(context.Context, *services.Status) error { panic("ouch") }, Restart: doubling(0),
			OnEvent: func(e services.Event) { j.add(e.Kind.String()) },
		})
		time.Sleep(500 * time.Millisecond)
		begun := time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took != 0 || j.String() != "restarting" {
			t.Errorf("took %v; events: %s", took, &j)
		}
	})
}

func TestAPanicOfARunThatWasAskedToStopIsReturnedByClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := launch(t, services.Config{Name: "svc", Run: func(ctx context.Context, _ *services.Status) error {
			<-ctx.Done()
			panic(errBoom)
		}})
		synctest.Wait()
		var p *services.PanicError
		if err := s.Close(); !errors.As(err, &p) || !errors.Is(err, errBoom) {
			t.Error(err)
		}
	})
}

func TestAFailedStartLeavesNothingRunning(t *testing.T) {
	leakFree(t)
	sub := func(j *journal) services.Service { return &scripted{name: "sub", j: j} }
	for name, c := range map[string]struct {
		cfg   func(j *journal) services.Config
		err   string
		order string
	}{
		"no name": {func(*journal) services.Config { return services.Config{} }, "misconfigured service: Config.Name is empty", ""},
		"a nil sub": {func(j *journal) services.Config {
			return services.Config{Name: "svc", Subs: []services.Service{sub(j), nil}}
		}, "misconfigured service svc: Config.Subs[1] is nil", ""},
		"a failing sub": {func(j *journal) services.Config {
			return services.Config{Name: "svc", Subs: []services.Service{sub(j), &scripted{name: "bad", j: j, onStart: refusing(errBoom)}}}
		}, "boom", "start sub, start bad, close sub"},
		"a failing hook": {func(j *journal) services.Config {
			return services.Config{Name: "svc", Subs: []services.Service{sub(j)}, Start: refusing(errBoom), Close: func() error { j.add("hook"); return nil }}
		}, "boom", "start sub, close sub"},
		"a panicking hook": {func(j *journal) services.Config {
			return services.Config{Name: "svc", Subs: []services.Service{sub(j)}, Start: func(context.Context) error { panic("ouch") }}
		}, "ouch", "start sub, close sub"},
	} {
		t.Run(name, func(t *testing.T) {
			var j journal
			cfg := c.cfg(&j)
			cfg.Run = func(context.Context, *services.Status) error { j.add("run"); return nil }
			s := services.New(cfg)
			defer func() {
				if v := recover(); v != nil && v != c.err {
					t.Errorf("recovered %v", v)
				}
				if got := j.String(); got != c.order {
					t.Errorf("%s, want %s", got, c.order)
				}
				if s.Ready() == nil || s.HealthReport()[cfg.Name] == nil {
					t.Error("ready or healthy")
				}
				if s.Close() == nil {
					t.Error("closed")
				}
			}()
			if err := s.Start(t.Context()); err == nil || err.Error() != c.err {
				t.Errorf("%v, want %s", err, c.err)
			}
		})
	}
}

func TestAPanickingCloseHookStillClosesTheSubs(t *testing.T) {
	leakFree(t)
	var j journal
	s := services.New(services.Config{
		Name: "svc", Close: func() error { panic("ouch") },
		Subs: []services.Service{&scripted{name: "sub", j: &j}},
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil || j.String() != "start sub, close sub" {
			t.Error(&j)
		}
	}()
	_ = s.Close()
}

// The retry header of an attempt must not go out with what a restarted run
// sends.
func TestARunGetsTheContextOfTheServiceAndNotOfTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		s := launch(t, services.Config{
			Name: "svc", Restart: doubling(0),
			Run: func(ctx context.Context, _ *services.Status) error {
				runs++
				if md, _ := metadata.FromOutgoingContext(ctx); len(md) > 0 || reprise.AttemptFromContext(ctx) != 1 {
					t.Errorf("run %d: %v", runs, md)
				}
				if runs < 3 {
					return errBoom
				}
				return nil
			},
		})
		<-s.(services.Ender).Done()
		if runs != 3 {
			t.Error(runs)
		}
	})
}

func TestAnUnknownEventKindNamesItself(t *testing.T) {
	t.Parallel()
	if got := services.EventKind(42).String(); got != "EventKind(42)" {
		t.Error(got)
	}
}

func TestAPanicOfRunCanBeLeftToEndTheProcess(t *testing.T) {
	crash := func(t *testing.T) services.Service {
		return launch(t, services.Config{
			Name: "svc", CrashOnPanic: true, Restart: doubling(0),
			Run: func(context.Context, *services.Status) error { panic("left alone") },
		})
	}
	if slices.Contains(flag.Args(), "crash") { // in the process made below
		<-crash(t).(services.Ender).Done()
		select {}
	}
	leakFree(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "crash").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "panic: left alone") {
		t.Errorf("%v\n%s", err, out)
	}
}
