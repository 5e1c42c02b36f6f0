package services_test

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/reprise-go/reprise/services"
)

var errBoom = errors.New("boom")

// inState returns a machine in the named state. Those in which a function runs
// stay so until release is called.
func inState(t *testing.T, name string) (m *services.StateMachine, release func()) {
	t.Helper()
	m = new(services.StateMachine)
	release = func() {}
	blocked := func(once func(string, func() error) error) func() {
		begun, end, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			if err := once("svc", func() error { close(begun); <-end; return nil }); err != nil {
				t.Error(err)
			}
		}()
		<-begun
		return func() { close(end); <-ended }
	}
	start := func(err error) { _ = m.StartOnce("svc", func() error { return err }) }
	stop := func(err error) { _ = m.StopOnce("svc", func() error { return err }) }
	switch name {
	case "Unstarted":
	case "Starting":
		release = blocked(m.StartOnce)
	case "Started":
		start(nil)
	case "StartFailed":
		start(errBoom)
	case "Stopping":
		start(nil)
		release = blocked(m.StopOnce)
	case "Stopped":
		start(nil)
		stop(nil)
	case "StopFailed":
		start(nil)
		stop(errBoom)
	}
	if got := m.State(); got != name {
		t.Fatalf("state %s, want %s", got, name)
	}
	return m, release
}

func TestEachStateAnswersAsDocumented(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state      string
		startErr   string // of StartOnce
		stopErr    string // of StopOnce; "waits" where it does
		stopIs     error
		ifStarted  bool // for states in which the lock is free
		notStopped bool
	}{
		{
			state: "Unstarted", startErr: "",
			stopErr: "svc has not been started: cannot stop unstarted service", stopIs: services.ErrCannotStopUnstarted,
			notStopped: true,
		},
		{state: "Starting", startErr: "svc has already been started once; state=Starting", stopErr: "waits"},
		{
			state: "Started", startErr: "svc has already been started once; state=Started",
			ifStarted: true, notStopped: true,
		},
		{
			state: "StartFailed", startErr: "svc has already been started once; state=StartFailed",
			stopErr: "svc cannot be stopped from this state; state=StartFailed", notStopped: true,
		},
		{state: "Stopping", startErr: "svc has already been started once; state=Stopping", stopErr: "waits"},
		{
			state: "Stopped", startErr: "svc has already been started once; state=Stopped",
			stopErr: "svc has already been stopped: already stopped", stopIs: services.ErrAlreadyStopped,
		},
		{
			state: "StopFailed", startErr: "svc has already been started once; state=StopFailed",
			stopErr: "svc cannot be stopped from this state; state=StopFailed", notStopped: true,
		},
	} {
		t.Run(c.state, func(t *testing.T) {
			t.Parallel()
			m, release := inState(t, c.state)
			defer release()

			for name, err := range map[string]error{"Ready": m.Ready(), "Healthy": m.Healthy()} {
				if c.state == "Started" {
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
					continue
				}
				if want := `service is "` + c.state + `", not started`; err == nil || err.Error() != want {
					t.Errorf("%s: %v, want %s", name, err, want)
				}
				if !errors.Is(err, services.ErrNotStarted) || errors.Is(err, services.ErrAlreadyStopped) {
					t.Errorf("%s: %v does not match ErrNotStarted alone", name, err)
				}
			}
			if c.state != "Unstarted" { // else below, as it changes the state
				err := m.StartOnce("svc", func() error { t.Error("fn was called"); return nil })
				if err == nil || err.Error() != c.startErr {
					t.Errorf("StartOnce: %v, want %s", err, c.startErr)
				}
			}
			if c.stopErr == "waits" {
				return
			}
			if got := m.IfStarted(func() {}); got != c.ifStarted {
				t.Errorf("IfStarted: %t", got)
			}
			if got := m.IfNotStopped(func() {}); got != c.notStopped {
				t.Errorf("IfNotStopped: %t", got)
			}
			if c.stopErr != "" {
				err := m.StopOnce("svc", func() error { t.Error("fn was called"); return nil })
				if err == nil || err.Error() != c.stopErr {
					t.Errorf("StopOnce: %v, want %s", err, c.stopErr)
				}
				if c.stopIs != nil && !errors.Is(err, c.stopIs) {
					t.Errorf("StopOnce: %v does not match %v", err, c.stopIs)
				}
				if m.State() != c.state {
					t.Errorf("a refused StopOnce changed the state to %s", m.State())
				}
			}
		})
	}
}

func TestTheErrorOfAStartOrStopIsReturnedUnchanged(t *testing.T) {
	t.Parallel()
	var m services.StateMachine
	if err := m.StartOnce("svc", func() error { return errBoom }); err != errBoom { //nolint:errorlint // identity is what is tested
		t.Errorf("StartOnce: %v", err)
	}
	var n services.StateMachine
	if err := n.StartOnce("svc", func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := n.StopOnce("svc", func() error { return errBoom }); err != errBoom { //nolint:errorlint // identity is what is tested
		t.Errorf("StopOnce: %v", err)
	}
}

func TestStopOnceWaitsForAStartUnderWay(t *testing.T) {
	t.Parallel()
	var (
		m       services.StateMachine
		started atomic.Bool
	)
	begun, stopping := make(chan struct{}), make(chan struct{})
	go func() {
		_ = m.StartOnce("svc", func() error {
			close(begun)
			<-stopping
			started.Store(true)
			return nil
		})
	}()
	<-begun
	close(stopping)
	if err := m.StopOnce("svc", func() error {
		if !started.Load() {
			t.Error("stopped before the start had ended")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if m.State() != "Stopped" {
		t.Error(m.State())
	}
}

func TestASecondStopOnceWaitsForTheFirstAndIsTold(t *testing.T) {
	m, release := inState(t, "Stopping")
	stopped := make(chan error, 1)
	go func() { stopped <- m.StopOnce("svc", func() error { return nil }) }()
	release()
	if err := <-stopped; !errors.Is(err, services.ErrAlreadyStopped) {
		t.Error(err)
	}
}

// A StopOnce that came between the claim of a start and its lock used to give
// up and leave the service running. Whatever the timing, a StopOnce after the
// state was seen to change must stop it.
func TestAStopDuringAStartIsNeverLost(t *testing.T) {
	t.Parallel()
	for i := range 20_000 {
		var (
			m  services.StateMachine
			wg sync.WaitGroup
		)
		wg.Go(func() {
			if err := m.StartOnce("svc", func() error { return nil }); err != nil {
				t.Error(err)
			}
		})
		for m.State() == "Unstarted" {
			runtime.Gosched()
		}
		if err := m.StopOnce("svc", func() error { return nil }); err != nil {
			t.Fatalf("try %d: %v", i, err)
		}
		wg.Wait()
		if m.State() != "Stopped" {
			t.Fatalf("try %d: %s", i, m.State())
		}
	}
}

func TestStopOnceWaitsForFunctionsThatNeedTheState(t *testing.T) {
	for name, guard := range map[string]func(*services.StateMachine, func()) bool{
		"IfStarted":    (*services.StateMachine).IfStarted,
		"IfNotStopped": (*services.StateMachine).IfNotStopped,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, _ := inState(t, "Started")
			var returned atomic.Bool
			running, read := make(chan struct{}), make(chan struct{})
			go guard(m, func() {
				close(running)
				<-read
				returned.Store(true)
			})
			<-running
			go close(read)
			if err := m.StopOnce("svc", func() error {
				if !returned.Load() {
					t.Error("stopped while the function ran")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestANilFunctionIsAnErrorAndNoPanic(t *testing.T) {
	t.Parallel()
	m, _ := inState(t, "Unstarted")
	if err := m.StartOnce("svc", nil); err == nil || m.State() != "StartFailed" {
		t.Error(err, m.State())
	}
	n, _ := inState(t, "Started")
	if err := n.StopOnce("svc", nil); err == nil || n.State() != "StopFailed" {
		t.Error(err, n.State())
	}
}

func TestAPanicOrExitLeavesAStateThatSaysSo(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func() error{
		"panic": func() error { panic(errBoom) },
		"exit":  func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			apart := func(fn func()) (recovered any) {
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { recovered = recover() }()
					fn()
				}()
				<-done
				return recovered
			}
			m, _ := inState(t, "Unstarted")
			v := apart(func() { _ = m.StartOnce("svc", leave) })
			if name == "panic" && v != any(errBoom) {
				t.Errorf("the panic did not reach the caller: %v", v)
			}
			if m.State() != "StartFailed" {
				t.Error(m.State())
			}
			if err := m.StopOnce("svc", nil); err == nil || err.Error() != "svc cannot be stopped from this state; state=StartFailed" {
				t.Error(err)
			}
			n, _ := inState(t, "Started")
			apart(func() { _ = n.StopOnce("svc", leave) })
			if n.State() != "StopFailed" {
				t.Error(n.State())
			}
		})
	}
}

func TestHealthyReportsWhatGatheredOnce(t *testing.T) {
	t.Parallel()
	m, _ := inState(t, "Started")
	m.SvcErrBuffer.Append(errBoom)
	if err := m.Healthy(); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	if err := m.Healthy(); err != nil {
		t.Error(err)
	}
}
