// Package patience bounds many attempts by the same time.
package patience

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Patience bounds attempts, all by the same time. They end in the order in which
// they began, so that one timer and a list do for them what a deadline does with
// a timer for each, and servers are not told a deadline that they would have to
// set a timer for: together that takes more time than all else that a call adds
// to one that succeeds. A server learns of the end of an attempt when the attempt
// is cancelled.
//
// An attempt whose context cannot end has no context of its own at all: it shares
// one with those that began at about the same time, and may last up to a
// sixteenth longer. That spares a cancellation for each attempt, which is what
// such calls would notice.
//
// It is safe for concurrent use. A nil Patience bounds nothing.
type Patience struct {
	limit time.Duration

	mu          sync.Mutex
	first, last *Attempt
	timer       *time.Timer
	set         bool // the timer will look at the list
	gone        bool // since Exhaust
	common      atomic.Pointer[common]
}

// Attempt is an attempt under way. Its fields belong to the lock of its Patience.
type Attempt struct {
	until      time.Time
	cancel     context.CancelFunc
	prev, next *Attempt
	over       bool
	shared     shared
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

// Begin returns the context of an attempt that begins now. Its End must follow.
func (p *Patience) Begin(ctx context.Context, b *Attempt) context.Context {
	if p == nil {
		return ctx
	}
	if ctx.Done() == nil {
		b.shared = shared{ctx, p.current()}
		return &b.shared
	}
	ctx, b.cancel = context.WithCancel(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		b.cancel()
	}
	b.until = time.Now().Add(p.limit)
	if b.prev = p.last; b.prev != nil {
		b.prev.next = b
	} else {
		p.first = b
	}
	p.last = b
	if !p.set && !p.gone {
		p.setTimer(p.limit)
	}
	return ctx
}

// End ends the attempt, and reports whether it was cancelled for taking too long.
func (p *Patience) End(b *Attempt) bool {
	if p == nil {
		return false
	}
	if b.shared.end != nil {
		return b.shared.end.over.Load()
	}
	p.mu.Lock()
	over := b.over
	if !over {
		p.remove(b)
	}
	p.mu.Unlock()
	b.cancel()
	return over
}

// Exhaust cancels all attempts, those that are under way and those to come.
// Their time is not up. No timer is left, which would otherwise run on for the
// time of an attempt, so one that serves few attempts should end so.
func (p *Patience) Exhaust() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	for b := p.first; b != nil; b = b.next {
		b.cancel()
	}
	if p.set {
		p.timer.Stop()
	}
	if c := p.common.Load(); c != nil {
		c.exhaust()
	}
}

func (p *Patience) remove(b *Attempt) {
	if b.prev != nil {
		b.prev.next = b.next
	} else {
		p.first = b.next
	}
	if b.next != nil {
		b.next.prev = b.prev
	} else {
		p.last = b.prev
	}
	b.prev, b.next = nil, nil
}

func (p *Patience) setTimer(d time.Duration) {
	p.set = true
	if p.timer == nil {
		p.timer = time.AfterFunc(d, p.look)
	} else {
		p.timer.Reset(d)
	}
}

// look ends the attempts that are overdue, and looks again when the next will be,
// if there is one.
func (p *Patience) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for b := p.first; b != nil && !now.Before(b.until); b = p.first {
		p.remove(b)
		b.over = true
		b.cancel()
	}
	if p.set = p.first != nil && !p.gone; p.set {
		p.setTimer(p.first.until.Sub(now))
	}
}
