package patience

import (
	"context"
	"sync/atomic"
	"time"
)

// common is the end of all attempts that began within a short time and whose
// contexts cannot end by themselves.
type common struct {
	ctx    context.Context
	cancel context.CancelFunc
	until  time.Time // when the next attempt begins another
	over   atomic.Bool
	timer  *time.Timer // nil if it ended before it began
}

// current returns the end of an attempt that begins now.
func (p *Patience) current() *common {
	now := time.Now()
	if c := p.common.Load(); c != nil && now.Before(c.until) {
		return c
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.common.Load(); c != nil && now.Before(c.until) {
		return c
	}
	span := p.limit / 16
	c := &common{until: now.Add(span)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if p.gone {
		c.cancel()
	} else {
		c.timer = time.AfterFunc(p.limit+span, func() {
			c.over.Store(true)
			c.cancel()
		})
	}
	p.common.Store(c)
	return c
}

// exhaust ends it before its time.
func (c *common) exhaust() {
	c.cancel()
	if c.timer != nil {
		c.timer.Stop()
	}
}

// shared is the context of an attempt with such an end.
type shared struct {
	context.Context // the call's
	end             *common
}

// Done implements context.Context.
func (s *shared) Done() <-chan struct{} { return s.end.ctx.Done() }

// Err implements context.Context.
func (s *shared) Err() error { return s.end.ctx.Err() }

// Value implements context.Context. The end answers for what package context asks
// about cancellation.
func (s *shared) Value(key any) any {
	if value := s.Context.Value(key); value != nil {
		return value
	}
	return s.end.ctx.Value(key)
}
