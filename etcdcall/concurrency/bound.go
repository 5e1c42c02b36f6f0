package concurrency

import (
	"context"
	"sync"
	"sync/atomic"
)

// bound is a context that ends with a call's or with the term, whichever is
// first. What it takes to wait for both is made when somebody waits: most
// requests succeed at once, and for them it would be the largest part of what
// this package costs.
type bound struct {
	context.Context // the call's
	term            *term

	both     atomic.Pointer[context.Context] // nil until somebody waits
	released atomic.Bool

	mu  sync.Mutex // of the making of both
	end context.CancelFunc
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
	if both := b.both.Load(); both != nil {
		return *both
	}
	if b.released.Load() || b.term.ctx.Err() != nil {
		return b.made()
	}
	return b.Context
}

func (b *bound) made() context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	if both := b.both.Load(); both != nil {
		return *both
	}
	both, cancel := context.WithCancelCause(b.Context)
	end := func() { cancel(context.Cause(b.term.ctx)) } // for no cause, if it is not over
	if b.term.ctx.Err() != nil {
		end()
	} else {
		stop, only := context.AfterFunc(b.term.ctx, end), end
		end = func() {
			stop()
			only()
		}
	}
	b.end = end
	b.both.Store(&both)
	if b.released.Load() { // or release sees both
		end()
	}
	return both
}

func (b *bound) release() {
	b.released.Store(true)
	if b.both.Load() != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.end()
	}
}
