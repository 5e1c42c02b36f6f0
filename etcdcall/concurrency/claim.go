package concurrency

import (
	"context"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// claim is one place in a queue: the key that stands for it, from before its
// creation until it is given up or lost.
type claim struct {
	queue *queue
	term  *term
	key   string
	// slot is the key's name, nil if the name is not the queue's.
	slot *slot
	// rivals is the prefix of the keys that the claim has to wait for, where
	// they are older than its own.
	rivals string
	// strict says that the claim must not be won unless its key is there by the same
	// read that shows that nobody is before it.
	strict bool

	// turn is that of a claim which waits by the queue's watch, or may have to.
	turn *turn

	// rev is the create revision of the key, which is the place in the queue
	// and the fencing token. It is 0 until it is known.
	rev int64
	// header is that of the response that showed the claim at the head.
	header *pb.ResponseHeader
	// existed says that the key was there already, and value what it held.
	existed bool
	value   string
	// uncertain says that a request to create the key had an unknown outcome.
	uncertain bool

	mu sync.Mutex
	// work is what is done for the claim in the background, if anything.
	work *work
	// over is why the claim was given up or lost, nil before.
	over error
	// held is the context of its holder, which ends then or with the term. It is
	// nil until somebody asks for it.
	held context.Context
	stop context.CancelCauseFunc
	// unguard ends the watch over the key, if there is one.
	unguard func()
}

// context returns the context to hold the claim under. From the first call on
// the claim hears of the deletion of its key.
func (c *claim) context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held, c.stop = context.WithCancelCause(c.term.ctx)
		if c.over != nil {
			c.stop(c.over)
		} else {
			lost := &LostError{Key: c.key, Rev: c.rev, Err: errDeleted}
			c.unguard = c.queue.watch(c.key, c.rev, func(int64) { c.stop(lost) })
		}
	}
	return c.held
}

// lose ends a claim whose key is gone.
func (c *claim) lose(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.finish(&LostError{Key: c.key, Rev: c.rev, Err: err})
}

// give ends the claim of a holder who gives it up.
func (c *claim) give() { _ = c.yield() }

// yield is give, and returns what loss did before.
func (c *claim) yield() (lost error) {
	c.mu.Lock()
	before := c.finish(ErrLockReleased)
	unguard := c.unguard
	c.mu.Unlock()
	if unguard != nil {
		unguard()
	}
	return c.lostBy(before)
}

// loss is ended for the holder, who has not given the claim up.
func (c *claim) loss() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lostBy(c.ended())
}

func (c *claim) lostBy(why error) error {
	if _, ok := why.(*SessionError); ok { //nolint:errorlint // the term's own end, not one that is wrapped
		return &LostError{Key: c.key, Rev: c.rev, Err: why}
	}
	return why
}

// finish ends the claim, and returns why it had ended before. The lock must be held.
func (c *claim) finish(why error) (before error) {
	before = c.ended()
	c.over = before
	if before == nil {
		c.over = why
	}
	if c.stop != nil {
		c.stop(c.over)
	}
	return before
}

// ended returns why the claim is over, or nil if it is not known to be.
func (c *claim) ended() error {
	switch {
	case c.over != nil:
		return c.over
	case c.held != nil:
		return context.Cause(c.held)
	default:
		return context.Cause(c.term.ctx)
	}
}

func (c *claim) client() *v3.Client { return c.queue.session.client }

// own is true in the store while the key of c is there.
func (c *claim) own() v3.Cmp {
	return created(c.key, pb.Compare_EQUAL, c.rev)
}
