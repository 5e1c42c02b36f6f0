package patience

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestAttemptsLeaveNothingBehind also while their cohort lives.
func TestAttemptsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, c call, by path) {
		p := New(limit)
		var attempts [5]Attempt
		for i := range attempts {
			p.Begin(c.ctx, &attempts[i])
			ctx, cancel := by.derive(&attempts[i])
			defer cancel()
			if !by.direct && c.end != nil {
				defer func() {
					if ctx.Err() == nil {
						t.Error("the context of an attempt outlives it")
					}
				}()
			}
		}
		cohort := attempts[0].cohort
		for _, i := range []int{2, 0, 4, 3, 1} { // from the middle and both ends of the list
			p.End(&attempts[i])
			if attempts[i].caller != nil || attempts[i].next != nil || attempts[i].prev != nil {
				t.Error("an ended attempt is still listed")
			}
		}
		kept := 0
		if by.direct && cohort.last != nil {
			kept = 1
		}
		if _, own := c.ctx.(*foreign); own && kept > 0 {
			t.Error("a foreign context is kept")
		}
		checkListed(t, "after the end", cohort, 0, kept)
		time.Sleep(span)
		synctest.Wait()
		checkListed(t, "when no more attempts join", cohort, 0, 0)
		p.Exhaust()
	})
}

func TestAttemptsOfACallShareASubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(limit)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		other, cancelOther := context.WithCancel(t.Context())
		defer cancelOther()
		begin := func(ctx context.Context) *Attempt {
			a := new(Attempt)
			p.Begin(ctx, a)
			a.Direct()
			_, cancel := context.WithCancel(a)
			t.Cleanup(cancel)
			return a
		}
		lone := begin(ctx)
		c := lone.cohort
		checkListed(t, "under the first call", c, 1, 1)
		p.End(lone)
		checkListed(t, "after a context that came once", c, 0, 0)

		first := begin(ctx)
		s := first.caller
		if second := begin(context.WithValue(ctx, valueKey{}, "value")); second.caller != s {
			t.Error("two attempts under way of the same context are listened for apart")
		} else {
			p.End(second)
		}
		p.End(first)
		if third := begin(ctx); third.caller != s {
			t.Error("an attempt after another of the same context is listened for apart")
		} else {
			p.End(third)
		}
		checkListed(t, "between calls", c, 0, 1)

		of := begin(other)
		again := begin(ctx)
		if again.caller != s {
			t.Error("the call of another context, which came once, takes the place of the first")
		}
		checkListed(t, "with both", c, 2, 2)
		p.End(again)
		p.End(of)
		checkListed(t, "after both", c, 0, 1)
		of = begin(other)
		checkListed(t, "under the second call of another context", c, 1, 1)
		p.End(of)
		checkListed(t, "after it", c, 0, 1)
		cancel()
		cancelOther()
		synctest.Wait()
		if s.over {
			t.Error("a context that was replaced by another is still listened for")
		}
		p.Exhaust()
	})
}

// TestNothingIsKeptForAttemptsThatCannotCome: an attempt may begin in time, and be
// waited for only when no more attempts join its cohort.
func TestNothingIsKeptForAttemptsThatCannotCome(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, c call, by path) {
		p := New(limit)
		var a Attempt
		p.Begin(c.ctx, &a)
		time.Sleep(span)
		synctest.Wait()
		_, cancel := by.derive(&a)
		defer cancel()
		p.End(&a)
		checkListed(t, "after the end", a.cohort, 0, 0)
		p.Exhaust()
	})
}

// TestCohortsMayGrowOldInAnyOrder, as timers go off at the same time on a loaded machine.
func TestCohortsMayGrowOldInAnyOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(limit)
		var older, newer Attempt
		p.Begin(context.Background(), &older)
		time.Sleep(span)
		synctest.Wait()
		p.Begin(context.Background(), &newer)
		time.Sleep(span)
		synctest.Wait()
		p.age(newer.cohort)
		if older.Err() != nil || !p.End(&newer) {
			t.Error("another cohort has ended")
		}
		p.Exhaust()
		if older.Err() == nil || p.End(&older) {
			t.Error("the attempts of the older cohort outlive Exhaust")
		}
	})
}

// asking is a foreign context that makes an attempt when it is asked.
type asking struct {
	*foreign

	patience *Patience
}

func (a asking) Value(key any) any {
	var attempt Attempt
	a.patience.Begin(a.foreign, &attempt)
	_, cancel := context.WithCancel(&attempt)
	cancel()
	a.patience.End(&attempt)
	return a.foreign.Value(key)
}

func TestTheContextOfACallMayMakeAttemptsItself(t *testing.T) {
	t.Parallel()
	for _, by := range paths() {
		synctest.Test(t, func(t *testing.T) {
			p, f := New(limit), newForeign()
			var attempts [2]Attempt
			p.Begin(asking{f, p}, &attempts[0])
			p.Begin(&attempts[0], &attempts[1])
			var ctxs []context.Context
			for _, a := range []*Attempt{&attempts[0], &attempts[1]} {
				ctx, cancel := by.derive(a)
				defer cancel()
				ctxs = append(ctxs, ctx)
			}
			f.end()
			for _, ctx := range ctxs {
				if <-ctx.Done(); !errors.Is(ctx.Err(), errForeign) {
					t.Errorf("%s: %v", by.name, ctx.Err())
				}
			}
			for i := range attempts {
				p.End(&attempts[i])
			}
			p.Exhaust()
		})
	}
}

func TestAForeignContextIsListenedForDuringAttemptsOnly(t *testing.T) {
	t.Parallel()
	for _, by := range paths() {
		t.Run(by.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p, ctx := New(limit), &counted{foreign: newForeign()}
				listening := func(want int) {
					t.Helper()
					ctx.mu.Lock()
					defer ctx.mu.Unlock()
					if ctx.listeners != want {
						t.Errorf("%d listen for the end of the call, want %d", ctx.listeners, want)
					}
				}
				var attempts [4]Attempt
				for i := range attempts {
					if i == 3 {
						time.Sleep(span / 2)
					}
					p.Begin(ctx, &attempts[i])
					_, cancel := by.derive(&attempts[i])
					defer cancel()
				}
				listening(4)
				p.End(&attempts[1])
				listening(3)
				p.End(&attempts[0])
				listening(2)
				time.Sleep(limit + span)
				listening(0)
				p.End(&attempts[2])
				p.End(&attempts[3])
				listening(0)
				// The bubble fails the test if a goroutine is left.
			})
		})
	}
}
