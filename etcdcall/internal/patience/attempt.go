package patience

import (
	"context"
	"sync/atomic"
	"time"
)

// Attempt is an attempt under way, and its context. Until somebody waits for its end
// it is nothing but the call's: what a context of its own costs is much of what a
// call adds to one that succeeds. See Direct for who waits for less.
type Attempt struct {
	call   context.Context
	cohort *cohort
	// endless says that the call's context cannot end. Then the attempt ends with its
	// cohort, whose context answers for that, and nothing else of it is used.
	endless bool

	// direct is the time between Direct and the question for cancelKey.
	direct atomic.Bool
	// own is the context that ends with the attempt, nil until somebody waits.
	own atomic.Pointer[context.Context]
	// ended is set by End; it changes under the lock of the cohort.
	ended atomic.Bool

	// The rest belongs to the lock of the cohort.

	told       func()             // what AfterFunc was given
	cancel     context.CancelFunc // of own
	caller     *caller            // where it is listed, nil if nowhere
	prev, next *Attempt
}

// Direct says that the very next thing that happens to the context, or to one that
// asks it in everything and passes AfterFunc on, is that package context derives one
// from it that can be cancelled. That costs less than usual: package context hands
// AfterFunc what it wants to have done at the end, if it finds no context of its own
// to add it to. Until it has looked, Done does not tell of the end of the attempt,
// but only of the call's. What is derived so does not end with End: who derives it
// cancels it before.
func (a *Attempt) Direct() {
	if !a.endless && cancelKey != nil && a.own.Load() == nil {
		a.direct.Store(true)
	}
}

// Deadline implements context.Context. It is the call's.
func (a *Attempt) Deadline() (time.Time, bool) { return a.call.Deadline() }

// Done implements context.Context.
func (a *Attempt) Done() <-chan struct{} {
	switch {
	case a.endless:
		return a.cohort.ctx.Done()
	case a.direct.Load():
		return a.call.Done()
	default:
		return a.made().Done()
	}
}

// Err implements context.Context.
func (a *Attempt) Err() error {
	if a.endless {
		return a.cohort.ctx.Err()
	}
	own := a.own.Load()
	if own != nil {
		if err := (*own).Err(); err != nil {
			return err
		}
	}
	if err := a.call.Err(); err != nil {
		return err // and soon own's
	}
	if own != nil {
		return nil
	}
	if a.cohort.closed.Load() || a.ended.Load() {
		return context.Canceled
	}
	return nil
}

// Value implements context.Context.
func (a *Attempt) Value(key any) any {
	if a.endless && (IsCancelKey(key) || cancelKey == nil) {
		if value := a.cohort.ctx.Value(key); value != nil {
			return value
		}
	}
	if own := a.own.Load(); own != nil {
		return (*own).Value(key)
	}
	if a.direct.Load() && IsCancelKey(key) && a.call.Err() == nil {
		a.direct.Store(false) // AfterFunc comes next; if not, Done is waited for
		return nil
	}
	return a.call.Value(key)
}

// AfterFunc calls f, which must not block, when the attempt is cancelled or the call
// ends; after End it need not. It is for package context, whose f may be called
// although it was stopped: what is returned need not keep it from being called.
func (a *Attempt) AfterFunc(f func()) (stop func() bool) {
	if a.endless {
		return context.AfterFunc(a.cohort.ctx, f)
	}
	if own := a.own.Load(); own != nil {
		return context.AfterFunc(*own, f)
	}
	c, done := a.cohort, a.call.Done()
	c.mu.Lock()
	if a.caller != nil {
		c.mu.Unlock()
		return context.AfterFunc(a.made(), f)
	}
	s := c.last
	if s == nil || s.done != done {
		again := c.seen == done
		c.seen = done
		c.mu.Unlock()
		a.listen(f, done, again)
		return stopped
	}
	over := a.tell(f, s)
	c.mu.Unlock()
	if over {
		go f()
	}
	return stopped
}

// listen is AfterFunc for an attempt of a call whose end is not listened for. again says
// that the last one of which that can be said was of the same call.
func (a *Attempt) listen(f func(), done <-chan struct{}, again bool) {
	c, s := a.cohort, a.cohort.listen(a.call, done)
	reusable := again && isReusable(a.call, done)
	c.mu.Lock()
	stop, over := s.stop, a.tell(f, s)
	if !over {
		stop = c.newest(s, reusable)
	}
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
	if over {
		go f()
	}
}

// tell sees to it that f is called at the end of the attempt or of s. If one of them is
// over, it is not. The lock of the cohort must be held.
func (a *Attempt) tell(f func(), s *caller) (over bool) {
	if s.over || a.cohort.closed.Load() || a.ended.Load() {
		return true
	}
	a.told = f
	s.add(a)
	return false
}

func stopped() bool { return true }

// made returns the context that ends with the attempt.
func (a *Attempt) made() context.Context {
	if own := a.own.Load(); own != nil {
		return *own
	}
	own, cancel := context.WithCancel(a.call)
	if !a.keep(own, cancel) {
		cancel()
		a.own.CompareAndSwap(nil, &own)
	}
	return *a.own.Load()
}

// keep makes own, which cancel ends, that of the attempt, unless it has one or is over.
// What AfterFunc was given waits for own from now on: it may ask for the attempt's
// error, which is own's.
func (a *Attempt) keep(own context.Context, cancel context.CancelFunc) bool {
	c := a.cohort
	c.mu.Lock()
	if a.own.Load() != nil || c.closed.Load() || a.ended.Load() {
		c.mu.Unlock()
		return false
	}
	a.own.Store(&own)
	a.cancel = cancel
	var stop func() bool
	if s := a.caller; s != nil {
		s.remove(a)
		stop = c.forget(s)
	}
	told := a.told
	a.told = nil
	c.rest.add(a)
	c.mu.Unlock()
	if told != nil {
		context.AfterFunc(own, told)
	}
	if stop != nil {
		stop()
	}
	return true
}

func (a *Attempt) end() (over bool) {
	c := a.cohort
	if a.endless {
		return c.over.Load()
	}
	c.mu.Lock()
	a.ended.Store(true)
	over = c.over.Load()
	var stop func() bool
	if s := a.caller; s != nil {
		s.remove(a)
		stop = c.forget(s)
	}
	cancel := a.cancel
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
	if cancel != nil {
		cancel()
	}
	return over
}
