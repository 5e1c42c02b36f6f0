package concurrency

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// claim is one place in a queue: the key that stands for it, from its creation
// until it is given up or lost.
type claim struct {
	key  string
	term *term
	// rev is the create revision of the key, which is the place in the queue
	// and the fencing token. It is 0 until it is known.
	rev int64
	// value is what the key said when it was found to exist already.
	value string
	// ctx ends when the claim is given up or lost; the cause says which.
	ctx context.Context
	end context.CancelCauseFunc
	// admitted is closed when the claim has come to the head of the queue.
	admitted chan struct{}
	header   *pb.ResponseHeader

	// uncertain says that the key may come into being though its creation has
	// failed.
	uncertain bool
	// listed is what was read when the key was created.
	listed *listing

	// Guarded by the queue's mutex once the claim has joined it:
	joined    bool
	complete  bool // the roster has every key that is older than this one
	relisting bool
	isHead    bool // the claim is admitted
}

func newClaim(t *term, key string) *claim {
	c := &claim{key: key, term: t, admitted: make(chan struct{})}
	c.ctx, c.end = context.WithCancelCause(t.ctx)
	return c
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
