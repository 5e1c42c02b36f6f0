package patience

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// cohort are attempts that began within a short time and end together.
type cohort struct {
	// ctx ends with the cohort. It is the end of those attempts whose calls have none.
	ctx    context.Context
	cancel context.CancelFunc
	timer  *time.Timer // belongs to the lock of its Patience

	closed atomic.Bool // changes under mu
	over   atomic.Bool // closed because its time was up

	mu sync.Mutex
	// rest are the attempts with a context of their own, which hears of the call's end.
	rest caller
	// callers are the ends of calls that are listened for, and last the newest.
	callers, last *caller
	// seen is the end that was listened for last. One that comes twice may come again.
	seen    <-chan struct{}
	retired bool // no more attempts join
}

// caller is the end of one or more calls, and the attempts that are to be told of it.
// It belongs to the lock of the cohort. One of a cohort stays when it has no attempts,
// for the next call of the same context: one that makes many calls, one after the other,
// is listened to twice. (A context that makes one call is not listened to after it: its
// own end would cost a goroutine.)
type caller struct {
	done       <-chan struct{}
	over       bool
	stop       func() bool // does not listen any more
	first      *Attempt
	listed     bool // among the callers
	prev, next *caller
}

func newCohort() *cohort {
	c := &cohort{}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// close ends all attempts of c.
func (c *cohort) close(over bool) {
	c.mu.Lock()
	c.over.Store(over)
	c.closed.Store(true)
	ends := c.rest.dismiss(nil)
	for s := c.callers; s != nil; s = s.next {
		ends = s.dismiss(ends)
		ends = append(ends, func() { s.stop() })
	}
	c.callers, c.last = nil, nil
	c.mu.Unlock()
	c.cancel()
	for _, end := range ends {
		end()
	}
}

// listen begins to listen for the end of ctx. The lock must not be held.
func (c *cohort) listen(ctx context.Context, done <-chan struct{}) *caller {
	s := &caller{done: done}
	s.stop = context.AfterFunc(ctx, func() {
		c.mu.Lock()
		s.over = true
		ends := s.dismiss(nil)
		if c.last == s {
			c.last = nil
		}
		c.forget(s) // it has nothing to stop any more
		c.mu.Unlock()
		for _, end := range ends {
			end()
		}
	})
	return s
}

// newest adds s to the callers, and makes it the last one if it may be used again. It
// returns what has to be done for the one before, nil if nothing.
func (c *cohort) newest(s *caller, reusable bool) (stop func() bool) {
	s.next, s.listed = c.callers, true
	if c.callers != nil {
		c.callers.prev = s
	}
	c.callers = s
	if !reusable || c.retired {
		return nil
	}
	before := c.last
	c.last = s
	return c.forget(before)
}

// retire says that no more attempts join c.
func (c *cohort) retire() {
	c.mu.Lock()
	c.retired = true
	last := c.last
	c.last = nil
	stop := c.forget(last)
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// forget removes s if it is of no use any more, and returns what has to be done then,
// nil if nothing.
func (c *cohort) forget(s *caller) (stop func() bool) {
	if s == nil || !s.listed || s == c.last || s.first != nil || c.closed.Load() {
		return nil
	}
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		c.callers = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.prev, s.next, s.listed = nil, nil, false
	return s.stop
}

// dismiss removes all attempts of s and appends what has to be done for their end.
func (s *caller) dismiss(ends []func()) []func() {
	for a := s.first; a != nil; a = s.first {
		if a.told != nil {
			ends = append(ends, a.told)
			a.told = nil
		}
		if a.cancel != nil {
			ends = append(ends, a.cancel)
		}
		s.remove(a)
	}
	return ends
}

func (s *caller) add(a *Attempt) {
	a.caller, a.next = s, s.first
	if s.first != nil {
		s.first.prev = a
	}
	s.first = a
}

func (s *caller) remove(a *Attempt) {
	if a.prev != nil {
		a.prev.next = a.next
	} else {
		s.first = a.next
	}
	if a.next != nil {
		a.next.prev = a.prev
	}
	a.caller, a.prev, a.next = nil, nil, nil
}
