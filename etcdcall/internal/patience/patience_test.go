package patience

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestEachAttemptEndsWhenItsOwnTimeIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(time.Second)
		began := time.Now()
		lasted := make([]time.Duration, 5)
		for round := range 2 { // the timer is set again after all have ended
			var wg sync.WaitGroup
			for i := range lasted {
				wg.Go(func() {
					time.Sleep(time.Duration(i) * 300 * time.Millisecond)
					var b Attempt
					start := time.Now()
					ctx := p.Begin(t.Context(), &b)
					if i == 2 { // one that is done in time
						time.Sleep(time.Millisecond)
					} else {
						<-ctx.Done()
					}
					lasted[i] = time.Since(start)
					if over := p.End(&b); over != (i != 2) {
						t.Errorf("attempt %d of round %d overdue: %v", i, round, over)
					}
				})
			}
			wg.Wait()
			for i, d := range lasted {
				if want := time.Second; i != 2 && d != want {
					t.Errorf("attempt %d of round %d lasted %v, want %v", i, round, d, want)
				}
			}
		}
		if took := time.Since(began); took != 2*(4*300*time.Millisecond+time.Second) {
			t.Errorf("took %v", took)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if p.set || p.first != nil || p.last != nil {
			t.Error("with no attempt under way, something is still watched")
		}
	})
}

func TestPatienceIsSharedByManyAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(time.Second)
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 50 {
					var b Attempt
					work := time.Duration(rand.IntN(2000)) * time.Millisecond
					start := time.Now()
					ctx := p.Begin(t.Context(), &b)
					select {
					case <-ctx.Done():
					case <-time.After(work):
					}
					took := time.Since(start)
					over := p.End(&b)
					if over && took != time.Second || !over && took != work || took > time.Second {
						t.Errorf("work of %v was ended after %v, overdue: %v", work, took, over)
					}
					if ctx.Err() == nil {
						t.Error("the context of an attempt outlives it")
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestPatienceThatIsExhaustedCancelsAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, other := New(time.Second), New(time.Second)
		var attempts [3]Attempt
		first, second := p.Begin(t.Context(), &attempts[0]), p.Begin(t.Context(), &attempts[1])
		bystander := other.Begin(t.Context(), &attempts[2])
		p.End(&attempts[0])
		p.Exhaust()
		p.Exhaust()
		if p.timer.Stop() {
			t.Error("the timer runs on")
		}
		if first.Err() == nil || second.Err() == nil || bystander.Err() != nil {
			t.Errorf("the contexts are %v, %v, %v", first.Err(), second.Err(), bystander.Err())
		}
		if p.End(&attempts[1]) {
			t.Error("an attempt that was cut short is said to have taken too long")
		}
		var late Attempt
		if ctx := p.Begin(t.Context(), &late); ctx.Err() == nil {
			t.Error("an attempt began later")
		}
		p.End(&late)
		if p.timer.Stop() {
			t.Error("the timer was set again")
		}
		other.End(&attempts[2])
		if p.first != nil || p.last != nil {
			t.Error("an ended attempt is still listed")
		}
	})
}

// TestNoAttemptOutlivesExhaustion, also if it begins at the same time.
func TestNoAttemptOutlivesExhaustion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(time.Hour)
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				parent := t.Context()
				if i%2 == 0 {
					parent = context.Background()
				}
				var a Attempt
				began := time.Now()
				<-p.Begin(parent, &a).Done()
				if over := p.End(&a); over || time.Since(began) != 0 {
					t.Errorf("it took too long: %v, after %v", over, time.Since(began))
				}
			})
		}
		p.Exhaust()
		wg.Wait()
	})
}

func TestNoPatienceBoundsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, limit := range []time.Duration{0, -1} {
			var a Attempt
			ctx := New(limit).Begin(t.Context(), &a)
			time.Sleep(time.Hour)
			if ctx.Err() != nil || New(limit).End(&a) {
				t.Errorf("a limit of %v ended an attempt", limit)
			}
		}
	})
}

func TestAttemptsWhoseContextsCannotEndShareAnEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		p := New(16 * time.Second)
		const span = time.Second // a sixteenth
		begun := func() (*Attempt, context.Context, time.Time) {
			var a Attempt
			return &a, p.Begin(context.WithValue(context.Background(), key{}, "value"), &a), time.Now()
		}
		first, ctx, start := begun()
		time.Sleep(span - 1)
		second, alike, _ := begun()
		time.Sleep(time.Nanosecond)
		third, later, thirdStart := begun()
		if ctx.Done() != alike.Done() || ctx.Done() == later.Done() {
			t.Error("not those share an end that began within a sixteenth of the limit")
		}
		if _, ok := ctx.Deadline(); ok || ctx.Value(key{}) != "value" {
			t.Error("the context is not the call's")
		}
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		if p.End(second) || alike.Err() != nil {
			t.Error("one that ended in time took too long")
		}
		<-child.Done()
		if took := time.Since(start); took != p.Limit()+span || !p.End(first) || ctx.Err() == nil {
			t.Errorf("the first was ended after %v, %v", took, ctx.Err())
		}
		if later.Err() != nil {
			t.Error("a later one ended with it")
		}
		<-later.Done()
		if took := time.Since(thirdStart); took != p.Limit()+span || !p.End(third) {
			t.Errorf("the last was ended after %v", took)
		}

		fourth, cut, _ := begun()
		p.Exhaust()
		if p.common.Load().timer.Stop() {
			t.Error("the timer runs on")
		}
		if cut.Err() == nil || p.End(fourth) {
			t.Errorf("after Exhaust: %v", cut.Err())
		}
		if fifth, none, _ := begun(); none.Err() == nil || p.End(fifth) {
			t.Error("an attempt began after Exhaust")
		}
		time.Sleep(2 * span)
		if sixth, none, _ := begun(); none.Err() == nil || p.End(sixth) {
			t.Error("an attempt began long after Exhaust")
		}
		if p.common.Load().timer != nil {
			t.Error("a timer was set after Exhaust")
		}
	})
}

func TestAnAttemptWhoseContextCannotEndCostsNothing(t *testing.T) {
	p, ctx := New(time.Hour), context.Background()
	var a Attempt
	if n := testing.AllocsPerRun(100, func() {
		p.Begin(ctx, &a)
		p.End(&a)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
