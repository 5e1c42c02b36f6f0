package patience

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestWhoWaitsAfterTheEndIsTold(t *testing.T) {
	t.Parallel()
	for name, newCall := range calls() {
		for over, end := range map[string]func(*Patience, *Attempt){
			"End":     func(p *Patience, a *Attempt) { p.End(a) },
			"Exhaust": func(p *Patience, _ *Attempt) { p.Exhaust() },
		} {
			synctest.Test(t, func(t *testing.T) {
				c, p := newCall(), New(limit)
				var waited, asked, told Attempt
				for _, a := range []*Attempt{&waited, &asked, &told} {
					p.Begin(c.ctx, a)
					end(p, a)
				}
				calledBack := false
				told.AfterFunc(func() { calledBack = true })
				synctest.Wait()
				ended := c.end != nil || over != "End" // the others end with their cohort
				if calledBack != ended || errors.Is(asked.Err(), context.Canceled) != ended {
					t.Errorf("%s, after %s: called back: %v, %v", name, over, calledBack, asked.Err())
				}
				select {
				case <-waited.Done():
				default:
					if ended {
						t.Errorf("%s: Done is open after %s", name, over)
					}
				}
				checkListed(t, "after "+over, told.cohort, 0, 0)
				if c.end != nil {
					c.end()
				}
				p.Exhaust()
			})
		}
	}
}

func TestNoAttemptBeginsAfterExhaust(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, c call, by path) {
		p := New(limit)
		p.Exhaust()
		var a Attempt
		p.Begin(c.ctx, &a)
		ctx, cancel := by.derive(&a)
		defer cancel()
		synctest.Wait()
		if !errors.Is(ctx.Err(), context.Canceled) || p.End(&a) || a.cohort.timer != nil {
			t.Errorf("it began: %v", ctx.Err())
		}
	})
}

// ending is a foreign context that ends when it is asked after somebody listens.
type ending struct {
	*foreign

	listener func()
}

func (e *ending) AfterFunc(f func()) (stop func() bool) {
	e.listener = f
	return func() bool { return false }
}

func (e *ending) Value(key any) any {
	if e.listener != nil && e.Err() == nil {
		e.end()
		e.listener()
		synctest.Wait() // until it has told others
	}
	return e.foreign.Value(key)
}

func TestACallMayEndWhileAnAttemptBeginsToListen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(limit)
		var a Attempt
		call := &ending{foreign: newForeign()}
		p.Begin(call, &a)
		a.cohort.seen = call.Done() // or it is not asked
		a.Direct()
		ctx, cancel := context.WithCancel(&a)
		defer cancel()
		synctest.Wait()
		if !errors.Is(ctx.Err(), errForeign) {
			t.Errorf("the attempt ended with %v", ctx.Err())
		}
		checkListed(t, "after the call", a.cohort, 0, 0)
		p.End(&a)
		p.Exhaust()
	})
}

// TestPackageContextFindsItsOwn where it can do without a goroutine.
func TestPackageContextFindsItsOwn(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, c call, by path) {
		p := New(limit)
		var a, direct Attempt
		p.Begin(c.ctx, &a)
		p.Begin(c.ctx, &direct)
		if direct.Direct(); c.end != nil && direct.Done() != c.ctx.Done() {
			t.Error("between Direct and a derivation, Done is not the call's")
		}
		p.End(&direct)
		_, cancel := by.derive(&a)
		defer cancel()
		done := a.Done()
		if own, ok := a.Value(cancelKey).(context.Context); !ok || own.Done() != done {
			t.Error("the attempt does not answer for its own context")
		}
		p.End(&a)
		p.Exhaust()
	})
}
