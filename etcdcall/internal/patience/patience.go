// Package patience bounds many attempts by the same time.
package patience

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Patience bounds attempts, all by the same time. Those that begin at about the same
// time are a cohort and end together, so that one timer serves many, and servers
// are not told a deadline that they would have to set a timer for: together that takes
// more time than all else that a call adds to one that succeeds. An attempt may last
// up to a sixteenth longer than the limit. A server learns of its end when the attempt
// is cancelled.
//
// It is safe for concurrent use. A nil Patience bounds nothing.
type Patience struct {
	limit time.Duration
	now   atomic.Pointer[cohort] // of the attempts that begin now, if there is one

	mu   sync.Mutex
	live []*cohort // those whose time is not over
	gone bool      // since Exhaust
}

// New returns one that ends attempts after limit, or nil if that is not positive.
func New(limit time.Duration) *Patience {
	if limit <= 0 {
		return nil
	}
	return &Patience{limit: limit}
}

// Limit is how long an attempt may take.
func (p *Patience) Limit() time.Duration { return p.limit }

// Begin returns the context of an attempt that begins now: a, unless p is nil. Its
// End must follow.
func (p *Patience) Begin(ctx context.Context, a *Attempt) context.Context {
	if p == nil {
		return ctx
	}
	a.call, a.cohort, a.endless = ctx, p.current(), ctx.Done() == nil
	return a
}

// End ends the attempt, and reports whether it was cancelled for taking too long.
func (p *Patience) End(a *Attempt) bool { return p != nil && a.end() }

// Exhaust cancels all attempts, those that are under way and those to come.
// Their time is not up. No timer is left, which would otherwise run on for the
// time of an attempt, so one that serves few attempts should end so.
func (p *Patience) Exhaust() {
	p.mu.Lock()
	p.gone = true
	live := p.live
	p.live = nil
	for _, c := range live {
		c.timer.Stop()
	}
	p.mu.Unlock()
	for _, c := range live {
		c.close(false)
	}
}

// current returns the cohort of an attempt that begins now.
func (p *Patience) current() *cohort {
	if c := p.now.Load(); c != nil {
		return c
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.now.Load(); c != nil {
		return c
	}
	c := newCohort()
	if p.gone {
		c.close(false)
	} else {
		p.live = append(p.live, c)
		c.timer = time.AfterFunc(p.limit/16, func() { p.age(c) })
	}
	p.now.Store(c)
	return c
}

// age takes c to its next stage: no more attempts join it, and after the time of an
// attempt those that it has are overdue.
func (p *Patience) age(c *cohort) {
	p.mu.Lock()
	if p.gone {
		p.mu.Unlock()
		return
	}
	if p.now.CompareAndSwap(c, nil) {
		c.timer.Reset(p.limit)
		p.mu.Unlock()
		c.retire()
		return
	}
	p.live = slices.DeleteFunc(p.live, func(l *cohort) bool { return l == c })
	p.mu.Unlock()
	c.close(true)
}
