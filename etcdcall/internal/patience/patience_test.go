package patience

import (
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
		other.End(&attempts[2])
		if p.first != nil || p.last != nil {
			t.Error("an ended attempt is still listed")
		}
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
