package services_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise/services"
)

var noSignals = []os.Signal{}

func TestRunStartsInOrderAndClosesInReverseWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(errBoom) })
		begun := time.Now()
		cfg := services.RunConfig{
			Signals: noSignals, Drain: 10 * time.Second,
			OnStop: func(reason error) { j.add(fmt.Sprint("stop at ", time.Since(begun), ": ", reason)) },
		}
		err := services.Run(ctx, cfg,
			&scripted{name: "a", j: &j},
			&scripted{name: "b", j: &j, onClose: func() error { time.Sleep(time.Second); return nil }})
		if err != nil {
			t.Error(err)
		}
		if got, want := j.String(), "start a, start b, stop at 1m0s: boom, close b, close a"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if took := time.Since(begun); took != 71*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestRunReturnsWhatWentWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gaveUp := func(j *journal) services.Service {
			return services.New(services.Config{Name: "feeder", Run: failingRun, Close: func() error { j.add("close feeder"); return nil }})
		}
		for name, c := range map[string]struct {
			srvcs func(j *journal) []services.Service
			err   string
			is    []error
			order string
		}{
			"a close fails": {
				func(j *journal) []services.Service {
					return []services.Service{&scripted{name: "a", j: j, onClose: failing(errBoom)}, &scripted{name: "b", j: j, onClose: exiting}}
				},
				"b: ended its goroutine without returning\na: boom", []error{errBoom}, "start a, start b, close b, close a",
			},
			"a start fails": {
				func(j *journal) []services.Service {
					return []services.Service{&scripted{name: "a", j: j, onClose: failing(errors.New("too"))}, &scripted{name: "b", j: j, onStart: refusing(errBoom)}, &scripted{name: "c", j: j}}
				},
				"b: boom\na: too", []error{errBoom}, "start a, start b, close a",
			},
			"a start panics": {
				func(j *journal) []services.Service {
					return []services.Service{&scripted{name: "a", j: j, onStart: func(context.Context) error { panic(errBoom) }}}
				},
				"a: panic: boom", []error{errBoom}, "start a",
			},
			"a service gives up": {
				func(j *journal) []services.Service {
					return []services.Service{&scripted{name: "a", j: j}, gaveUp(j), &scripted{name: "c", j: j, onClose: failing(errors.New("too"))}}
				},
				"service feeder ended: feeder: gave up after run 1: boom\nc: too", []error{errBoom, services.ErrGaveUp}, "start a, start c, close c, close feeder, close a",
			},
			"a service is nil": {
				func(j *journal) []services.Service { return []services.Service{&scripted{name: "a", j: j}, nil} },
				"service 2 of 2 is nil", nil, "",
			},
		} {
			var j journal
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			err := services.Run(ctx, services.RunConfig{Signals: noSignals}, c.srvcs(&j)...)
			cancel()
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: %v\nwant %s", name, err, c.err)
			}
			for _, target := range c.is {
				if !errors.Is(err, target) {
					t.Errorf("%s: %v does not match %v", name, err, target)
				}
			}
			if got := j.String(); got != c.order {
				t.Errorf("%s: %s, want %s", name, got, c.order)
			}
		}
	})
}

func TestRunNamesWhatDidNotStopInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			timeout time.Duration
			took    time.Duration
			err     string
			order   string
		}{
			"the given time":   {2 * time.Second, 2 * time.Second, "not stopped: c, b, a (context deadline exceeded: 2s were given)", "close d, close c"},
			"30 s if not said": {0, 30 * time.Second, "not stopped: c, b, a (context deadline exceeded: 30s were given)", "close d, close c"},
			"enough":           {time.Minute, 41 * time.Second, "", "close d, close c, close b, close a"},
			"without bound":    {-1, 41 * time.Second, "", "close d, close c, close b, close a"},
		} {
			var j journal
			slow := func(d time.Duration) func() error { return func() error { time.Sleep(d); return nil } }
			ctx, cancel := context.WithCancel(t.Context())
			var begun time.Time
			time.AfterFunc(time.Second, func() { begun = time.Now(); cancel() })
			err := services.Run(ctx, services.RunConfig{Signals: noSignals, Timeout: c.timeout},
				&scripted{name: "a", j: &j}, &scripted{name: "b", j: &j},
				&scripted{name: "c", j: &j, onClose: slow(40 * time.Second)}, &scripted{name: "d", j: &j, onClose: slow(time.Second)})
			if took := time.Since(begun); took != c.took {
				t.Errorf("%s: took %v", name, took)
			}
			time.Sleep(time.Minute) // c returns at last
			synctest.Wait()
			if got, want := j.String(), "start a, start b, start c, start d, "+c.order; got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
			if c.err == "" {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			var unstopped *services.UnstoppedError
			if !errors.As(err, &unstopped) || err.Error() != c.err || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want %s", name, err, c.err)
			} else if got := strings.Join(unstopped.Names, " "); got != "c b a" {
				t.Errorf("%s: %s", name, got)
			}
		}
	})
}

func TestAStopDuringTheStartIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			onStart func(context.Context) error
			err     string
			order   string
		}{
			"it heeds its context": {
				func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("connecting: %w", ctx.Err()) },
				"<nil>", "start a, start b, close a",
			},
			"it succeeds": {
				func(ctx context.Context) error { <-ctx.Done(); return nil },
				"<nil>", "start a, start b, close b, close a",
			},
			"it fails for another reason": {
				func(ctx context.Context) error { <-ctx.Done(); return errBoom },
				"b: boom", "start a, start b, close a",
			},
			"it hangs": {
				func(context.Context) error { time.Sleep(time.Hour); return nil },
				"not stopped: b (context deadline exceeded: 1s were given)", "start a, start b, close a",
			},
		} {
			var j journal
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			err := services.Run(ctx, services.RunConfig{Signals: noSignals, Drain: time.Hour, Timeout: time.Second},
				&scripted{name: "a", j: &j}, &scripted{name: "b", j: &j, onStart: c.onStart}, &scripted{name: "c", j: &j})
			cancel()
			if got := fmt.Sprint(err); got != c.err {
				t.Errorf("%s: %s, want %s", name, got, c.err)
			}
			if got := j.String(); got != c.order {
				t.Errorf("%s: %s, want %s", name, got, c.order)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestRunKeepsTheCheckerInStepWithTheProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		c := services.NewChecker("", "")
		code := func(when string) {
			n, _ := get(t, c, "/readyz")
			j.add(fmt.Sprint(when, " ", n))
		}
		ctx, cancel := context.WithCancel(t.Context())
		svc := services.New(services.Config{
			Name: "svc",
			Start: func(context.Context) error {
				code("starting")
				return nil
			},
			Run: func(ctx context.Context, _ *services.Status) error {
				time.Sleep(time.Second)
				code("running")
				cancel()
				time.Sleep(time.Second)
				code("draining")
				<-ctx.Done()
				return nil
			},
			Close: func() error { code("closing"); return nil },
		})
		if err := c.Register(svc); err != nil { // Run must not mind
			t.Fatal(err)
		}
		if err := services.Run(ctx, services.RunConfig{Checker: c, Signals: noSignals, Drain: time.Minute}, svc); err != nil {
			t.Error(err)
		}
		if got, want := j.String(), "starting 503, running 200, draining 503, closing 503"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if c.State() != "Stopped" {
			t.Error(c.State())
		}
	})
}

func TestRunLeavesACheckerToWhomItBelongs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c := started(t, services.HealthCheckerConfig{})
		if err := services.Run(ctx, services.RunConfig{Checker: c, Signals: noSignals}, &scripted{name: "a", j: &j}); err != nil {
			t.Error(err)
		}
		if c.State() != "Started" {
			t.Errorf("a checker that ran before is %s", c.State())
		}
		if j.String() != "" {
			t.Errorf("started under a dead context: %s", &j)
		}

		listed := services.NewChecker("", "")
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := services.Run(ctx, services.RunConfig{Checker: listed, Signals: noSignals}, &scripted{name: "a", j: &j}, listed.Service()); err != nil {
			t.Error(err)
		}
		if _, report := listed.IsReady(); text(report) != "a: <nil>" {
			t.Error(text(report))
		}

		if err := services.Run(nil, services.RunConfig{}); err == nil || err.Error() != "the context is nil" { //nolint:staticcheck // what is tested
			t.Error(err)
		}
		if err := services.Run(t.Context(), services.RunConfig{Checker: services.NewChecker("", ""), Signals: noSignals}, &scripted{}); err == nil {
			t.Error("a service without a name was accepted")
		}
	})
}

// send sends a signal to this process.
func send(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		t.Error(err)
	}
}

func TestASignalStopsTheProgramInOrder(t *testing.T) {
	leakFree(t)
	for name, sig := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT} {
		var j journal
		var reason error
		svc := &scripted{name: "a", j: &j}
		trigger := services.New(services.Config{Name: "trigger", Run: func(context.Context, *services.Status) error { send(t, sig); return nil }})
		err := services.Run(t.Context(), services.RunConfig{OnStop: func(err error) { reason = err }}, svc, trigger)
		if err != nil || j.String() != "start a, close a" {
			t.Errorf("%s: %v, %s", name, err, &j)
		}
		var got *services.SignalError
		if !errors.As(reason, &got) || got.Signal != sig || reason.Error() != "received signal: "+sig.String() {
			t.Errorf("%s: %v", name, reason)
		}
	}
}

func TestASecondSignalEndsTheProgramAtOnce(t *testing.T) {
	leakFree(t)
	for name, drain := range map[string]time.Duration{"in the drain": time.Hour, "in a close": 0} {
		var j journal
		release, returned := make(chan struct{}), make(chan struct{})
		closing := func() error {
			defer close(returned)
			send(t, syscall.SIGUSR1)
			<-release
			return nil
		}
		cfg := services.RunConfig{
			Signals: []os.Signal{syscall.SIGUSR1}, Drain: drain, Timeout: time.Hour,
			OnStop: func(error) {
				if drain > 0 {
					send(t, syscall.SIGUSR1)
				}
			},
		}
		trigger := services.New(services.Config{Name: "trigger", Run: func(context.Context, *services.Status) error { send(t, syscall.SIGUSR1); return nil }})
		err := services.Run(t.Context(), cfg, &scripted{name: "a", j: &j}, &scripted{name: "b", j: &j, onClose: closing}, trigger)
		var unstopped *services.UnstoppedError
		var sig *services.SignalError
		if !errors.As(err, &unstopped) || !errors.As(err, &sig) {
			t.Fatalf("%s: %v", name, err)
		}
		want := "b a"
		if drain > 0 {
			want = "trigger b a"
		}
		if got := strings.Join(unstopped.Names, " "); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if strings.Contains(j.String(), "close a") {
			t.Errorf("%s: %s", name, &j)
		}
		close(release)
		if drain == 0 {
			<-returned
		}
	}
}

// Whoever cancels the context on a signal sends Run both.
func TestASignalAfterTheContextHasEndedIsAFirstOne(t *testing.T) {
	leakFree(t)
	var j journal
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	arrived := make(chan os.Signal, 1)
	defer signal.Stop(arrived)
	cfg := services.RunConfig{Signals: []os.Signal{syscall.SIGUSR1}, OnStop: func(error) {
		signal.Notify(arrived, syscall.SIGUSR1)
		send(t, syscall.SIGUSR1)
		<-arrived
	}}
	trigger := services.New(services.Config{Name: "trigger", Run: func(context.Context, *services.Status) error { cancel(); return nil }})
	if err := services.Run(ctx, cfg, &scripted{name: "a", j: &j}, trigger); err != nil || j.String() != "start a, close a" {
		t.Errorf("%v, %s", err, &j)
	}
}
