package concurrency

import (
	"context"
	"sync"
)

// bound is a context that ends with a call's or with the term, whichever is
// first. What it takes to wait for both is made when somebody waits: most
// requests succeed at once, and for them it would be the largest part of what
// this package costs.
type bound struct {
	context.Context // the call's
	term            *term

	mu       sync.Mutex
	both     context.Context // nil until somebody waits
	end      context.CancelFunc
	released bool
}

// bound returns a context that ends with ctx or with the term, and a function
// that releases it.
func (t *term) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	b := &bound{Context: ctx, term: t}
	return b, b.release
}

// Done implements context.Context.
func (b *bound) Done() <-chan struct{} { return b.made().Done() }

// Err implements context.Context.
func (b *bound) Err() error { return b.current().Err() }

// Value implements context.Context.
func (b *bound) Value(key any) any { return b.current().Value(key) }

// current returns the context that knows how b stands: the call's, until somebody
// waits or another end than the call's has come.
func (b *bound) current() context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.both == nil && (b.released || b.term.ctx.Err() != nil) {
		b.make()
	}
	if b.both != nil {
		return b.both
	}
	return b.Context
}

func (b *bound) made() context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.both == nil {
		b.make()
	}
	return b.both
}

func (b *bound) make() {
	both, cancel := context.WithCancelCause(b.Context)
	end := func() { cancel(context.Cause(b.term.ctx)) } // for no cause, if it is not over
	b.both, b.end = both, end
	if b.released || b.term.ctx.Err() != nil {
		end()
		return
	}
	stop := context.AfterFunc(b.term.ctx, end)
	b.end = func() {
		stop()
		end()
	}
}

func (b *bound) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.released = true
	if b.end != nil {
		b.end()
	}
}
