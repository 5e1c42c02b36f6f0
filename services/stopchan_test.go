package services_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/services"
)

// both runs a test for the two kinds of stop channel.
func both(t *testing.T, test func(t *testing.T, stop chan struct{}, s stopper)) {
	t.Helper()
	t.Run("StopChan", func(t *testing.T) {
		leakFree(t)
		stop := make(chan struct{})
		test(t, stop, services.StopChan(stop))
	})
	t.Run("StopRChan", func(t *testing.T) {
		leakFree(t)
		stop := make(chan struct{})
		test(t, stop, services.StopRChan(stop))
	})
}

type stopper interface {
	NewCtx() (context.Context, context.CancelFunc)
	Ctx(ctx context.Context) (context.Context, context.CancelFunc)
	CtxCancel(ctx context.Context, cancel context.CancelFunc) (context.Context, context.CancelFunc)
}

func TestAContextEndsWithItsStopChannelAndSaysWhy(t *testing.T) {
	both(t, func(t *testing.T, stop chan struct{}, s stopper) {
		ctx, cancel := s.NewCtx()
		defer cancel()
		if ctx.Err() != nil {
			t.Fatal(ctx.Err())
		}
		close(stop)
		<-ctx.Done()
		if ctx.Err() != context.Canceled || context.Cause(ctx) != services.ErrStopped { //nolint:errorlint // exactly these
			t.Errorf("%v, cause %v", ctx.Err(), context.Cause(ctx))
		}
	})
}

func TestOnAClosedStopChannelTheContextIsCancelledAtOnce(t *testing.T) {
	both(t, func(t *testing.T, stop chan struct{}, s stopper) {
		close(stop)
		for range 1000 {
			ctx, cancel := s.NewCtx()
			if ctx.Err() == nil || context.Cause(ctx) != services.ErrStopped { //nolint:errorlint // exactly this
				t.Fatalf("%v, cause %v", ctx.Err(), context.Cause(ctx))
			}
			cancel()
			ctx, cancel = s.CtxCancel(context.WithCancel(t.Context()))
			if ctx.Err() == nil {
				t.Fatal("CtxCancel: alive")
			}
			cancel()
		}
	})
}

func TestAContextEndsWithItsParentOrItsCancel(t *testing.T) {
	both(t, func(t *testing.T, _ chan struct{}, s stopper) {
		parent, end := context.WithCancelCause(t.Context())
		ctx, cancel := s.Ctx(parent)
		defer cancel()
		end(errBoom)
		<-ctx.Done()
		if context.Cause(ctx) != errBoom { //nolint:errorlint // exactly this
			t.Error(context.Cause(ctx))
		}
		ctx, cancel = s.Ctx(parent) // dead already
		if ctx.Err() == nil {
			t.Error("alive under a dead parent")
		}
		cancel()
		ctx, cancel = s.NewCtx()
		cancel()
		if context.Cause(ctx) != context.Canceled { //nolint:errorlint // exactly this
			t.Error(context.Cause(ctx))
		}
	})
}

func TestCtxCancelReturnsWhatItWasGiven(t *testing.T) {
	both(t, func(t *testing.T, stop chan struct{}, s stopper) {
		given, cancelGiven := context.WithTimeout(t.Context(), time.Hour)
		ctx, cancel := s.CtxCancel(given, cancelGiven)
		if ctx != given || reflect.ValueOf(cancel).Pointer() != reflect.ValueOf(cancelGiven).Pointer() {
			t.Error("not the same context and cancel")
		}
		close(stop)
		<-ctx.Done()
	})
}

func TestACauseOfAStopSurvivesInvoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(services.StopChan)
		ctx, cancel := stop.NewCtx()
		defer cancel()
		time.AfterFunc(time.Second, func() { close(stop) })
		begun := time.Now()
		err := reprise.Invoke(ctx, func(context.Context, reprise.CallSettings) error { return errBoom },
			reprise.WithRetry(func() reprise.Retryer {
				return reprise.OnErrorFunc(reprise.Backoff{Initial: time.Minute, Jitter: reprise.JitterNone},
					func(error) bool { return true })
			}))
		if !errors.Is(err, services.ErrStopped) || !errors.Is(err, errBoom) {
			t.Errorf("%v", err)
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("the pause did not wake at the stop: %v", took)
		}
	})
}
