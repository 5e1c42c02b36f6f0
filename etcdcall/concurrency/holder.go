package concurrency

import (
	"context"
	"sync"
	"sync/atomic"

	v3 "go.etcd.io/etcd/client/v3"
)

// holder is the part of a lock handle that knows what is held through it.
type holder struct {
	mu   sync.Mutex
	held []*claim // the latest last
	// leaving are claims that are given back in the background since their
	// unlocking has failed.
	leaving []*claim

	busy atomic.Bool // see claim.acquire
}

// hold adds a claim that was acquired.
func (h *holder) hold(c *claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = append(h.held, c)
}

// current returns the claim that was acquired last and is held still, or nil.
func (h *holder) current() *claim {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.held); n > 0 {
		return h.held[n-1]
	}
	return nil
}

// unlock gives one claim back, or waits for one that is on its way out.
func (h *holder) unlock(ctx context.Context) error {
	h.mu.Lock()
	c, leaving := pop(&h.held), (*claim)(nil)
	if c == nil {
		leaving = pop(&h.leaving)
	}
	h.mu.Unlock()
	switch {
	case c != nil:
		_, err := c.giveBack(ctx)
		if err != nil && !isLost(err) {
			h.leave(c)
		}
		return err
	case leaving == nil:
		return ErrLockReleased
	}
	err := leaving.withdrawn(ctx)
	if err != nil {
		h.leave(leaving)
	}
	return err
}

func (h *holder) leave(c *claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaving = append(h.leaving, c)
}

// context is that of the current claim.
func (h *holder) context() context.Context {
	if c := h.current(); c != nil {
		return c.context()
	}
	return endedContext
}

// token is that of the current claim.
func (h *holder) token() int64 {
	if c := h.current(); c != nil {
		return c.rev
	}
	return 0
}

// owner is a comparison that is true while the current claim is held, and never
// true if there is none.
func (h *holder) owner(prefix string) v3.Cmp {
	if c := h.current(); c != nil {
		return c.own()
	}
	return v3.Compare(v3.CreateRevision(prefix), "=", -1)
}

// isLost reports whether a claim was lost before it was given back.
func isLost(err error) bool {
	_, lost := err.(*LostError) //nolint:errorlint // as giveBack returns it
	return lost
}

func pop(claims *[]*claim) *claim {
	n := len(*claims)
	if n == 0 {
		return nil
	}
	c := (*claims)[n-1]
	*claims = (*claims)[:n-1]
	return c
}

// endedContext is the context of a lock that is not held.
var endedContext = func() context.Context {
	ctx, end := context.WithCancelCause(context.Background())
	end(ErrLockReleased)
	return ctx
}()
