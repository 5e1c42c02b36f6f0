package services_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise/services"
)

// journal notes what services did, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, ", ")
}

// scripted is a service that does as it is told and notes it.
type scripted struct {
	name    string
	j       *journal
	onStart func(ctx context.Context) error
	onClose func() error
	ready   func() error
	report  func() map[string]error
}

func (s *scripted) Start(ctx context.Context) error {
	s.j.add("start " + s.name)
	if s.onStart != nil {
		return s.onStart(ctx)
	}
	return nil
}

func (s *scripted) Close() error {
	s.j.add("close " + s.name)
	if s.onClose != nil {
		return s.onClose()
	}
	return nil
}

func (s *scripted) Name() string { return s.name }

func (s *scripted) Ready() error {
	if s.ready != nil {
		return s.ready()
	}
	return nil
}

func (s *scripted) HealthReport() map[string]error {
	if s.report != nil {
		return s.report()
	}
	return map[string]error{s.name: nil}
}

func failing(err error) func() error { return func() error { return err } }
func refusing(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

func TestMultiStartStartsInOrderAndClosesInReverse(t *testing.T) {
	t.Parallel()
	var j journal
	var ms services.MultiStart
	if err := ms.Start(t.Context(), &scripted{name: "a", j: &j}, &scripted{name: "b", j: &j, onClose: failing(errors.New("b failed"))}); err != nil {
		t.Fatal(err)
	}
	if err := ms.Start(t.Context(), &scripted{name: "c", j: &j, onClose: failing(errors.New("c failed"))}); err != nil {
		t.Fatal(err)
	}
	if err := ms.Close(); err == nil || err.Error() != "c failed\nb failed" {
		t.Errorf("%v", err)
	}
	if err := ms.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if got, want := j.String(), "start a, start b, start c, close c, close b, close a"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestMultiStartClosesAllThatItStartedWhenOneFails(t *testing.T) {
	t.Parallel()
	dead, cancel := context.WithCancelCause(t.Context())
	cancel(errBoom)
	startErr := errors.New("c did not start")
	for name, c := range map[string]struct {
		ctx   context.Context //nolint:containedctx // of a case
		last  services.StartClose
		want  string
		is    []error
		order string
	}{
		"its start fails": {
			ctx: t.Context(), last: &scripted{name: "c", onStart: refusing(startErr)},
			want: "c did not start\nb failed", is: []error{startErr}, order: "start c, close b, close a",
		},
		"it is nil": {
			ctx: t.Context(), want: "service 1 of 1 is nil\nb failed", order: "close b, close a",
		},
		"the context is nil": {
			last: &scripted{name: "c"}, want: "the context is nil\nb failed", order: "close b, close a",
		},
		"the context has ended": {
			ctx: dead, last: &scripted{name: "c"},
			want: "context canceled: boom\nb failed", is: []error{context.Canceled, errBoom}, order: "close b, close a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var j journal
			if s, ok := c.last.(*scripted); ok {
				s.j = &j
			}
			var ms services.MultiStart
			if err := ms.Start(t.Context(), &scripted{name: "a", j: &j}, &scripted{name: "b", j: &j, onClose: failing(errors.New("b failed"))}); err != nil {
				t.Fatal(err)
			}
			err := ms.Start(c.ctx, c.last)
			if err == nil || err.Error() != c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
			for _, target := range c.is {
				if !errors.Is(err, target) {
					t.Errorf("%v does not match %v", err, target)
				}
			}
			if got, want := j.String(), "start a, start b, "+c.order; got != want {
				t.Errorf("%s, want %s", got, want)
			}
			if err := ms.Close(); err != nil || strings.Count(j.String(), "close a") != 1 {
				t.Errorf("closed again: %v, %s", err, &j)
			}
		})
	}
}

func TestMultiStartClosesWhatItStartedWhenAStartPanics(t *testing.T) {
	t.Parallel()
	var j journal
	var ms services.MultiStart
	func() {
		defer func() {
			if v := recover(); v != any(errBoom) {
				t.Errorf("recovered %v", v)
			}
		}()
		_ = ms.Start(t.Context(), &scripted{name: "a", j: &j},
			&scripted{name: "b", j: &j, onStart: func(context.Context) error { panic(errBoom) }})
	}()
	if got, want := j.String(), "start a, start b, close a"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestMultiStartClosesTheOthersWhenACloseFails(t *testing.T) {
	t.Parallel()
	var j journal
	var ms services.MultiStart
	if err := ms.Start(t.Context(), &scripted{name: "a", j: &j},
		&scripted{name: "b", j: &j, onClose: func() error { panic(errBoom) }}); err != nil {
		t.Fatal(err)
	}
	reason := errors.New("the reason")
	err := ms.CloseBecause(reason)
	if err == nil || err.Error() != "the reason\npanic: boom" {
		t.Errorf("%v", err)
	}
	var p *services.PanicError
	if !errors.Is(err, reason) || !errors.Is(err, errBoom) || !errors.As(err, &p) {
		t.Errorf("%v lacks one of its errors", err)
	} else if !strings.Contains(string(p.Stack), "lifecycle_test.go") {
		t.Errorf("the stack does not show where:\n%s", p.Stack)
	}
	if got, want := j.String(), "start a, start b, close b, close a"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }

func TestCloseAllClosesAtTheSameTimeAndJoinsInOrderOfCompletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		after := func(d time.Duration) closerFunc {
			return func() error {
				time.Sleep(d)
				return errors.New(d.String())
			}
		}
		begun := time.Now()
		err := services.MultiCloser([]closerFunc{after(3 * time.Second), after(time.Second), after(2 * time.Second)}).Close()
		if err == nil || err.Error() != "1s\n2s\n3s" {
			t.Errorf("%v", err)
		}
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestCloseAllOfNothingOrOfBrokenClosers(t *testing.T) {
	leakFree(t)
	if err := services.CloseAll(); err != nil {
		t.Error(err)
	}
	if err := services.MultiCloser([]closerFunc{}).Close(); err != nil {
		t.Error(err)
	}
	closed := false
	err := services.CloseAll(nil,
		closerFunc(func() error { panic("ouch") }),
		closerFunc(func() error { runtime.Goexit(); return nil }),
		closerFunc(func() error { closed = true; return nil }))
	if err == nil || !closed {
		t.Fatalf("%v, closed: %t", err, closed)
	}
	lines := strings.Split(err.Error(), "\n")
	slices.Sort(lines)
	if want := []string{"closer 1 of 4 is nil", "ended its goroutine without returning", "panic: ouch"}; !slices.Equal(lines, want) {
		t.Errorf("%q, want %q", lines, want)
	}
	var p *services.PanicError
	if !errors.As(err, &p) || p.Value != "ouch" || p.Unwrap() != nil {
		t.Errorf("%v", p)
	}
}

func TestCopyHealthCopiesAndTellsDuplicatesInTests(t *testing.T) {
	t.Parallel()
	dest := map[string]error{"a": errBoom}
	services.CopyHealth(dest, map[string]error{"b": nil, "c": errBoom})
	if len(dest) != 3 || dest["b"] != nil || dest["c"] != errBoom { //nolint:errorlint // the same error
		t.Errorf("%v", dest)
	}
	services.CopyHealth(nil, nil)
	defer func() {
		if v := fmt.Sprint(recover()); v != "service names must be unique: duplicate name: a" {
			t.Error(v)
		}
	}()
	services.CopyHealth(dest, map[string]error{"a": nil})
}

func TestContainsErrorFindsAnErrorInAnyReport(t *testing.T) {
	t.Parallel()
	report := map[string]error{"a": nil, "b": fmt.Errorf("deep: %w", errBoom)}
	if !services.ContainsError(report, errBoom) || services.ContainsError(report, services.ErrGaveUp) || services.ContainsError(nil, errBoom) {
		t.Error(report)
	}
}

func exiting() error {
	runtime.Goexit()
	return nil
}
