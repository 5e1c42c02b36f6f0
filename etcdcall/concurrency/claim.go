package concurrency

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// claim is one place in a queue: the key that stands for it, from before its
// creation until it is given up or lost.
type claim struct {
	queue *queue
	term  *term
	key   string
	// slot is the number of the key's name, 0 if the name is not the queue's.
	slot int
	// rivals is the prefix of the keys that the claim has to wait for, where
	// they are older than its own.
	rivals string

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

	// work is what is done for the claim in the background, if anything.
	work *work

	// ctx ends when the claim is given up or lost; the cause says which.
	ctx context.Context
	end context.CancelCauseFunc
	// unguard ends the watch over the key, if there is one; guarded by the
	// mutex of who holds the claim.
	unguard func()
}

// lose ends a claim whose key is gone.
func (c *claim) lose(err error) {
	c.end(&LostError{Key: c.key, Rev: c.rev, Err: err})
}

// loss returns why the claim is lost, or nil if it is not known to be.
func (c *claim) loss() error {
	if c.ctx.Err() == nil {
		return nil
	}
	cause := context.Cause(c.ctx)
	if _, ok := cause.(*SessionError); ok { //nolint:errorlint // the term's own end, not one that is wrapped
		return &LostError{Key: c.key, Rev: c.rev, Err: cause}
	}
	return cause
}

func (c *claim) client() *v3.Client { return c.queue.session.client }

// own is true in the store while the key of c is there.
func (c *claim) own() v3.Cmp {
	return v3.Compare(v3.CreateRevision(c.key), "=", c.rev)
}

// guard makes the claim hear of the deletion of its key.
func (c *claim) guard() {
	if c.unguard == nil {
		c.unguard = c.queue.watch(c.key, c.rev, func(int64) { c.lose(errDeleted) })
	}
}

// give ends the claim of a holder who gives it up.
func (c *claim) give() {
	c.end(ErrLockReleased)
	if c.unguard != nil {
		c.unguard()
	}
}
