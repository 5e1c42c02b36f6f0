package concurrency

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestABoundContextEndsWithTheCallOrTheTerm(t *testing.T) {
	t.Parallel()
	over := errors.New("over")
	type fixture struct {
		ctx     context.Context
		call    context.CancelFunc
		term    context.CancelCauseFunc
		release context.CancelFunc
	}
	for name, c := range map[string]struct {
		end   func(f *fixture)
		alive bool
		cause error
	}{
		"neither":       {end: func(*fixture) {}, alive: true},
		"call":          {end: func(f *fixture) { f.call() }, cause: context.Canceled},
		"term":          {end: func(f *fixture) { f.term(over) }, cause: over},
		"call and term": {end: func(f *fixture) { f.call(); f.term(over) }, cause: context.Canceled},
		"released":      {end: func(f *fixture) { f.release(); f.release() }, cause: context.Canceled},
	} {
		for _, waiting := range []bool{false, true} {
			for _, asked := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					var f fixture
					type key struct{}
					call, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
					term := newTerm(t.Context(), 1, 1)
					f.call, f.term = cancel, term.end
					f.ctx, f.release = term.bound(call)
					defer f.release()
					defer cancel()
					defer term.end(nil)
					var done <-chan struct{}
					if waiting {
						done = f.ctx.Done()
					}
					c.end(&f)
					if asked {
						if got := context.Cause(f.ctx); !waiting && !errors.Is(got, c.cause) {
							t.Errorf("%s: before anybody waits, the cause is %v, want %v", name, got, c.cause)
						}
					}
					synctest.Wait()
					select {
					case <-f.ctx.Done():
						if c.alive || f.ctx.Err() == nil {
							t.Errorf("%s: done, and the error is %v", name, f.ctx.Err())
						}
						if got := context.Cause(f.ctx); !errors.Is(got, c.cause) {
							t.Errorf("%s: the cause is %v, want %v", name, got, c.cause)
						}
					case <-time.After(time.Hour):
						if !c.alive || f.ctx.Err() != nil {
							t.Errorf("%s: not done, and the error is %v", name, f.ctx.Err())
						}
					}
					if f.ctx.Done() != done && waiting {
						t.Errorf("%s: who waited before and who waits now wait for different things", name)
					}
					if f.ctx.Value(key{}) != "value" {
						t.Errorf("%s: the values of the call's context are lost", name)
					}
				})
			}
		}
	}
}

// hooked is a context that counts what is to be called after its end.
type hooked struct {
	context.Context
	done  chan struct{}
	hooks atomic.Int64
}

func (h *hooked) Done() <-chan struct{} { return h.done }

func (h *hooked) AfterFunc(func()) (stop func() bool) {
	h.hooks.Add(1)
	return func() bool { h.hooks.Add(-1); return true }
}

// TestATermForgetsWhatIsReleased has a term outlive the calls that were bound to it,
// one of which is asked only after its release.
func TestATermForgetsWhatIsReleased(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		life := &hooked{Context: t.Context(), done: make(chan struct{})}
		ctx, release := (&term{ctx: life}).bound(t.Context())
		if !late {
			ctx.Done()
		}
		release()
		<-ctx.Done()
		if n := life.hooks.Load(); n != 0 {
			t.Errorf("released, late: %v: the term keeps %d of it", late, n)
		}
	}
}

// TestABoundEndsThatIsReleasedWhileSomebodyBeginsToWait, and so does what its term kept
// of it.
func TestABoundEndsThatIsReleasedWhileSomebodyBeginsToWait(t *testing.T) {
	t.Parallel()
	for range 1000 {
		life := &hooked{Context: t.Context(), done: make(chan struct{})}
		ctx, release := (&term{ctx: life}).bound(t.Context())
		var all sync.WaitGroup
		all.Go(func() { <-ctx.Done() })
		all.Go(func() {
			if err, value := ctx.Err(), ctx.Value(t); value != nil || err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("the error is %v, and a value %v", err, value)
			}
		})
		all.Go(release)
		all.Wait()
		if n := life.hooks.Load(); n != 0 || ctx.Err() == nil {
			t.Fatalf("the term keeps %d of it, and its error is %v", n, ctx.Err())
		}
	}
}
