package patience

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAttemptsEndWhenTheirTimeIsOver(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, c call, by path) {
		p := New(limit)
		var wg sync.WaitGroup
		for _, after := range []time.Duration{0, 1, span / 2, span - 1, span, 3 * span, 3 * limit} {
			wg.Go(func() {
				time.Sleep(after)
				var a, quick Attempt
				p.Begin(c.ctx, &a)
				p.Begin(c.ctx, &quick)
				began := time.Now()
				ctx, cancel := by.derive(&a)
				defer cancel()
				done, stop := by.derive(&quick)
				defer stop()
				time.Sleep(limit - 1)
				if ctx.Err() != nil || a.Err() != nil || done.Err() != nil {
					t.Errorf("after %v, before the limit, the attempts ended: %v, %v, %v", after, ctx.Err(), a.Err(), done.Err())
				}
				if p.End(&quick) {
					t.Errorf("after %v, an attempt that ended in time is over", after)
				}
				<-ctx.Done()
				if took := time.Since(began); took < limit || took > limit+span {
					t.Errorf("after %v, an attempt took %v, want %v to %v", after, took, limit, limit+span)
				}
				if !errors.Is(ctx.Err(), context.Canceled) || !errors.Is(a.Err(), context.Canceled) || !errors.Is(context.Cause(ctx), context.Canceled) {
					t.Errorf("after %v, an attempt ended with %v, %v, %v", after, ctx.Err(), a.Err(), context.Cause(ctx))
				}
				if c.ctx.Err() != nil {
					t.Errorf("the call ended too: %v", c.ctx.Err())
				}
				if !p.End(&a) {
					t.Errorf("after %v, an attempt that took too long is not over", after)
				}
				checkListed(t, "at the end", a.cohort, 0, 0)
			})
		}
		wg.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.live) != 0 || p.now.Load() != nil {
			t.Errorf("after the time of all attempts, %d cohorts live", len(p.live))
		}
	})
}

func TestAttemptsEndWithTheirCall(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, c call, by path) {
		if c.end == nil {
			return
		}
		p := New(2 * time.Hour)
		var attempts [3]Attempt
		var ctxs []context.Context
		for i := range attempts {
			p.Begin(c.ctx, &attempts[i])
			ctx, cancel := by.derive(&attempts[i])
			defer cancel()
			ctxs = append(ctxs, ctx)
		}
		p.End(&attempts[1])
		other := p.Begin(context.Background(), new(Attempt))
		c.end()
		synctest.Wait()
		for _, i := range []int{0, 2} {
			if err, cause := ctxs[i].Err(), context.Cause(ctxs[i]); !errors.Is(err, c.err) || !errors.Is(cause, c.cause) {
				t.Errorf("an attempt ended with %v, because of %v, want %v and %v", err, cause, c.err, c.cause)
			}
			select {
			case <-ctxs[i].Done():
			default:
				t.Error("an attempt did not end")
			}
			if !errors.Is(attempts[i].Err(), c.err) || p.End(&attempts[i]) {
				t.Errorf("the attempt itself ended with %v", attempts[i].Err())
			}
		}
		if other.Err() != nil {
			t.Error("the attempt of another call ended too")
		}
		var late Attempt
		p.Begin(c.ctx, &late)
		ctx, cancel := by.derive(&late)
		defer cancel()
		synctest.Wait()
		if !errors.Is(ctx.Err(), c.err) || !errors.Is(context.Cause(ctx), c.cause) || p.End(&late) {
			t.Errorf("an attempt that began later ended with %v, because of %v", ctx.Err(), context.Cause(ctx))
		}
		p.Exhaust()
	})
}

func TestExhaustEndsAllAttempts(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, c call, by path) {
		p, other := New(limit), New(limit)
		bystander := other.Begin(c.ctx, new(Attempt))
		var attempts [6]Attempt
		began := time.Now()
		var ctxs []context.Context
		for i := range attempts {
			switch i {
			case 1, 2:
				time.Sleep(span) // for a cohort of their own
			case 3:
				p.End(&attempts[1])
				p.Exhaust()
				p.Exhaust()
			case 4:
				time.Sleep(2 * limit)
			}
			p.Begin(c.ctx, &attempts[i])
			if i == 5 {
				p.Exhaust() // between its beginning and that anybody waits
			}
			ctx, cancel := by.derive(&attempts[i])
			defer cancel()
			ctxs = append(ctxs, ctx)
			if i < 3 {
				continue
			}
			synctest.Wait()
			for j := range i + 1 {
				if j == 1 {
					continue // has ended
				}
				if err := ctxs[j].Err(); !errors.Is(err, context.Canceled) || !errors.Is(attempts[j].Err(), err) {
					t.Errorf("attempt %d: %v, %v", j, err, attempts[j].Err())
				}
				if p.End(&attempts[j]) {
					t.Errorf("attempt %d is said to have taken too long", j)
				}
				checkListed(t, "after Exhaust", attempts[j].cohort, 0, 0)
			}
			if i == 3 && bystander.Err() != nil {
				t.Error("the attempt of another patience ended")
			}
		}
		if took := time.Since(began); took != 2*span+2*limit {
			t.Errorf("took %v", took)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.live) != 0 {
			t.Errorf("%d cohorts live", len(p.live))
		}
	})
}

func TestExhaustLeavesNoTimer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(limit)
		var cohorts []*cohort
		for range 3 {
			var a Attempt
			p.Begin(context.Background(), &a)
			cohorts = append(cohorts, a.cohort)
			time.Sleep(span)
		}
		synctest.Wait()
		p.Exhaust()
		var late Attempt
		p.Begin(context.Background(), &late)
		for _, c := range append(cohorts, late.cohort) {
			if c.timer != nil && c.timer.Stop() {
				t.Error("a timer runs on")
			}
		}
	})
}

func TestTheContextOfAnAttemptIsThatOfItsCall(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, c call, by path) {
		p := New(2 * time.Hour)
		var a Attempt
		check := func(when string, ctx context.Context) {
			t.Helper()
			until, ok := ctx.Deadline()
			if want, wanted := c.ctx.Deadline(); until != want || ok != wanted {
				t.Errorf("%s, the deadline is %v, want %v", when, until, want)
			}
			if got := ctx.Value(valueKey{}); got != "value" || ctx.Err() != nil {
				t.Errorf("%s, the value is %v, and the error %v", when, got, ctx.Err())
			}
		}
		ctx := p.Begin(c.ctx, &a)
		check("at first", ctx)
		_, cancel := by.derive(&a)
		check("once somebody waits", ctx)
		cancel()
		check("after who waited has gone", ctx)
		p.End(&a)
		p.Exhaust()
	})
}

// TestNoAttemptIsMissed by an end that comes while it begins.
func TestNoAttemptIsMissed(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(p *Patience, cancel context.CancelFunc){
		"Exhaust":      func(p *Patience, _ context.CancelFunc) { p.Exhaust() },
		"cancellation": func(_ *Patience, cancel context.CancelFunc) { cancel() },
		"the time":     func(*Patience, context.CancelFunc) {},
	} {
		for _, by := range paths() {
			t.Run(name+"/"+by.name, func(t *testing.T) {
				t.Parallel()
				for range 20 {
					synctest.Test(t, func(t *testing.T) { testRace(t, by, end, name == "the time") })
				}
			})
		}
	}
}

func testRace(t *testing.T, by path, end func(*Patience, context.CancelFunc), over bool) {
	t.Helper()
	p := New(limit)
	call, cancel := context.WithCancel(t.Context())
	defer cancel()
	cohort := p.current()
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			ctx := call
			if over && i%4 == 0 {
				ctx = context.Background()
			} else if i%4 == 1 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithCancel(call)
				defer cancel()
			}
			if over { // the cohort ends now
				time.Sleep(limit + span)
			}
			a := Attempt{call: ctx, cohort: cohort, endless: ctx.Done() == nil}
			derived, cancel := by.derive(&a)
			defer cancel()
			if i%8 == 2 { // some are quick
				p.End(&a)
				return
			}
			<-derived.Done()
			if a.Err() == nil || p.End(&a) != over {
				t.Errorf("an attempt ended with %v", a.Err())
			}
		})
	}
	end(p, cancel)
	wg.Wait()
	synctest.Wait()
	if attempts, _ := cohort.listed(); attempts != 0 {
		t.Errorf("%d attempts are listed", attempts)
	}
	p.Exhaust()
}

func TestPatienceIsSharedByManyAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, all := New(limit), paths()
		calls := []call{calls()["endless"](), calls()["cancelled"](), calls()["cancelled"](), calls()["foreign"]()}
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 50 {
					var a Attempt
					work := rand.N(2 * limit)
					began := time.Now()
					p.Begin(calls[rand.IntN(len(calls))].ctx, &a)
					ctx, cancel := all[rand.IntN(len(all))].derive(&a)
					select {
					case <-ctx.Done():
					case <-time.After(work):
					}
					took := time.Since(began)
					over := p.End(&a)
					cancel()
					if over && (took < limit || took > limit+span) || !over && (took != work || took > limit+span) {
						t.Errorf("work of %v was ended after %v, overdue: %v", work, took, over)
					}
				}
			})
		}
		wg.Wait()
		time.Sleep(2 * limit)
		if p.mu.Lock(); len(p.live) != 0 {
			t.Errorf("%d cohorts live", len(p.live))
		}
		p.mu.Unlock()
	})
}

func TestNoPatienceBoundsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, limit := range []time.Duration{0, -1} {
			var a Attempt
			ctx := New(limit).Begin(t.Context(), &a)
			time.Sleep(time.Hour)
			if ctx != t.Context() || ctx.Err() != nil || New(limit).End(&a) {
				t.Errorf("a limit of %v ended an attempt", limit)
			}
		}
	})
}

func TestAttemptsThatSucceedAllocateNextToNothing(t *testing.T) {
	cancellable, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, ctx := range map[string]context.Context{"endless": context.Background(), "cancellable": cancellable} {
		p := New(time.Hour)
		var a Attempt
		if n := testing.AllocsPerRun(100, func() {
			p.Begin(ctx, &a)
			p.End(&a)
		}); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		own := testing.AllocsPerRun(100, func() {
			_, cancel := context.WithCancel(cancellable)
			cancel()
		})
		direct := testing.AllocsPerRun(100, func() {
			a = Attempt{}
			p.Begin(ctx, &a)
			a.Direct()
			_, cancel := context.WithCancel(&a)
			cancel()
			p.End(&a)
		})
		if direct > own+2 { // what package context gives AfterFunc, and its note of how to stop that
			t.Errorf("%s: %v allocations, and %v without an attempt", name, direct, own)
		}
		p.Exhaust()
	}
}
