package servicetest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/reprise-go/reprise/services"
	"github.com/reprise-go/reprise/services/servicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBoom = errors.New("boom")

// recorder is a test that notes instead of failing.
type recorder struct {
	lines    []string
	cleanups []func()
	ending   bool
}

func (r *recorder) Helper()           {}
func (r *recorder) Cleanup(fn func()) { r.cleanups = append(r.cleanups, fn) }
func (r *recorder) Fatalf(format string, args ...any) {
	r.lines = append(r.lines, "fatal: "+fmt.Sprintf(format, args...))
}

func (r *recorder) Errorf(format string, args ...any) {
	if !r.ending {
		r.lines = append(r.lines, "Errorf outside of Cleanup")
	}
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r *recorder) end() string {
	r.ending = true
	for _, cleanup := range slices.Backward(r.cleanups) {
		cleanup()
	}
	return strings.Join(r.lines, "; ")
}

func TestRunHealthyJudgesWhatItSaw(t *testing.T) {
	idle := func(ctx context.Context) error { <-ctx.Done(); return nil }
	for name, c := range map[string]struct {
		cfg  services.Config
		want string
	}{
		"well": {services.Config{Run: func(ctx context.Context, _ *services.Status) error { return idle(ctx) }}, ""},
		"ready late": {services.Config{ManualReady: true, Run: func(ctx context.Context, st *services.Status) error {
			st.Set("warming", errBoom)
			time.Sleep(time.Second)
			st.Set("warming", nil)
			st.Ready(nil)
			return idle(ctx)
		}}, ""},
		"never ready": {services.Config{ManualReady: true, Run: func(ctx context.Context, _ *services.Status) error { return idle(ctx) }}, "svc was never ready: not ready yet"},
		"unhealthy once": {services.Config{Run: func(ctx context.Context, st *services.Status) error {
			time.Sleep(time.Second + time.Millisecond)
			st.Report(errBoom)
			return idle(ctx)
		}}, "svc was unhealthy: svc: boom"},
		"unhealthy at the end": {services.Config{Run: func(ctx context.Context, st *services.Status) error {
			time.Sleep(time.Minute - time.Millisecond) // after the last tick
			st.Report(errBoom)
			return idle(ctx)
		}}, "svc was unhealthy: svc: boom"},
		"cannot be started": {services.Config{Start: func(context.Context) error { return errBoom }}, "fatal: the service could not be started: boom"},
		"cannot be closed":  {services.Config{Close: func() error { return errBoom }}, "the service could not be closed: boom"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.cfg.Name = "svc"
				var r recorder
				s := services.New(c.cfg)
				if got := servicetest.RunHealthy(&r, s); got != s {
					t.Error("returned another service")
				}
				time.Sleep(time.Minute - time.Nanosecond)
				if got := r.end(); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
				if s.Ready() == nil {
					t.Error("runs after the test")
				}
			})
		})
	}
}

func TestRunEndsTheContextOfTheStart(t *testing.T) {
	t.Parallel()
	var kept func() error
	s := servicetest.Run(t, services.New(services.Config{Name: "svc", Start: func(ctx context.Context) error {
		kept = ctx.Err
		return ctx.Err()
	}}))
	if kept() == nil {
		t.Error("a service that keeps the context of its start is not found out")
	}
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
}

func Example() { //nolint:testableexamples // it needs a running test
	t := new(testing.T) // that of the test
	svc := services.New(services.Config{
		Name: "svc",
		Run: func(ctx context.Context, _ *services.Status) error {
			<-ctx.Done()
			return nil
		},
	})
	servicetest.RunHealthy(t, svc)
	// … use svc; it is closed when the test ends.
}
