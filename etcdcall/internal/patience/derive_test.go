package patience

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestManyContextsMayBeDerivedFromAnAttempt(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, c call, by path) {
		byTime := func(*Patience, *Attempt) { time.Sleep(limit + span) }
		testDerivations(t, "its time", limit, c, by, byTime)
		testDerivations(t, "Exhaust", limit, c, by, func(p *Patience, _ *Attempt) { p.Exhaust() })
		if c.end != nil {
			testDerivations(t, "its call", 2*time.Hour, c, by, func(*Patience, *Attempt) { c.end() })
		}
	})
}

func testDerivations(t *testing.T, name string, within time.Duration, c call, by path, end func(*Patience, *Attempt)) {
	t.Helper()
	p := New(within)
	var a Attempt
	p.Begin(c.ctx, &a)
	first, cancelFirst := by.derive(&a)
	defer cancelFirst()
	gone, cancelGone := by.derive(&a)
	cancelGone()
	second, cancelSecond := by.derive(&a)
	defer cancelSecond()
	end(p, &a)
	third, cancelThird := by.derive(&a)
	defer cancelThird()
	synctest.Wait()
	if first.Err() == nil || second.Err() == nil || third.Err() == nil || gone.Err() == nil {
		t.Errorf("%s ended the contexts with %v, %v, %v", name, first.Err(), second.Err(), third.Err())
	}
	p.End(&a)
	checkListed(t, "after "+name, a.cohort, 0, 0)
	p.Exhaust()
}

func TestPackageContextAsksForAfterFunc(t *testing.T) {
	t.Parallel()
	if cancelKey == nil || !IsCancelKey(cancelKey) || IsCancelKey(new(int)) || IsCancelKey(valueKey{}) {
		t.Error("this version of Go does not derive contexts the way that Direct needs")
	}
}

// TestWhatDirectNeedsMayBeMissing runs alone, for it changes cancelKey.
func TestWhatDirectNeedsMayBeMissing(t *testing.T) {
	key := cancelKey
	defer func() { cancelKey = key }()
	cancelKey = nil
	for name, newCall := range calls() {
		for _, by := range paths() {
			synctest.Test(t, func(t *testing.T) {
				c, p := newCall(), New(limit)
				var a Attempt
				p.Begin(c.ctx, &a)
				ctx, cancel := by.derive(&a)
				defer cancel()
				if !a.endless && a.own.Load() == nil || a.told != nil || a.direct.Load() {
					t.Errorf("%s, %s: the attempt has no context of its own", name, by.name)
				}
				<-ctx.Done()
				if !p.End(&a) || c.ctx.Err() != nil {
					t.Errorf("%s, %s: the attempt is not over", name, by.name)
				}
				if c.end != nil {
					c.end()
				}
			})
		}
	}
}

// TestDirectPromisesTooMuch when a context comes between that does not pass AfterFunc
// on. It ends all the same.
func TestDirectPromisesTooMuch(t *testing.T) {
	t.Parallel()
	for name, newCall := range calls() {
		for end, wait := range map[string]func(p *Patience, c call){
			"its time":   func(*Patience, call) { time.Sleep(limit + span) },
			"exhaustion": func(p *Patience, _ call) { p.Exhaust() },
			"its call":   func(_ *Patience, c call) { c.end() },
		} {
			synctest.Test(t, func(t *testing.T) {
				c, p := newCall(), New(limit)
				if end == "its call" {
					if c.end == nil {
						return
					}
					p = New(2 * time.Hour)
				}
				var a Attempt
				p.Begin(c.ctx, &a)
				a.Direct()
				ctx, cancel := context.WithCancel(context.WithValue(&a, valueKey{}, "other"))
				defer cancel()
				synctest.Wait()
				wait(p, c)
				synctest.Wait()
				if ctx.Err() == nil {
					t.Errorf("%s: %s did not end what was derived", name, end)
				}
				p.End(&a)
				if c.end != nil && c.ctx.Err() == nil {
					c.end()
				}
				p.Exhaust()
			})
		}
	}
}

func TestDirectAttemptsHaveNoContextOfTheirOwn(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, c call, by path) {
		p := New(limit)
		var a Attempt
		p.Begin(c.ctx, &a)
		_, cancel := by.derive(&a)
		defer cancel()
		if without := a.own.Load() == nil; without != (by.direct || c.ctx.Done() == nil) {
			t.Errorf("without a context of its own: %v", without)
		}
		p.End(&a)
		p.Exhaust()
	})
}
