package etcdcall

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/reprise-go/reprise/etcdcall/internal/completion"
)

// release gives a slot back for the next call.
func (k *keeper) release(s *slot) { s.id.free <- s }

// retire keeps a slot from serving until the call that was abandoned there can
// take no effect any more.
func (k *keeper) retire(s *slot) { s.id.retired <- s }

// fence takes the retired slots, one after another, and puts a number above
// that of the abandoned call into each. Once that is acknowledged the abandoned
// call cannot take effect any more, and the slot serves again. After a failure
// that does not pass by itself, the next attempt follows a renewal of the lease.
func (id *identity) fence(ctx context.Context) {
	for {
		changed := id.change()
		select {
		case <-ctx.Done():
			return
		case s := <-id.retired:
			if id.keeper.fenceSlot(ctx, s) {
				continue
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// fenceSlot puts a higher number into a slot and releases it. If that fails it
// retires the slot again and returns false.
func (k *keeper) fenceSlot(ctx context.Context, s *slot) bool {
	c := newOnceCall(pb.KV_Txn_FullMethodName, nil, s)
	c.req = c.write.Seal()
	resp, err := k.guarded.call(ctx, c)
	if err == nil && !resp.GetSucceeded() {
		var f completion.Found
		if f, _, err = k.look(ctx, c); err == nil && f.State != completion.Sealed {
			s.id.lose()
			return true
		}
		// An earlier attempt of this fence did it.
	}
	switch {
	case err == nil:
		k.release(s)
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		s.id.lose()
	default:
		k.retire(s)
		return false
	}
	return true
}

// look reads the call's slot.
func (k *keeper) look(ctx context.Context, c *onceCall) (completion.Found, *pb.ResponseHeader, error) {
	resp, err := k.fetch.call(ctx, c.write.Look())
	return c.write.Found(resp.GetKvs()), resp.GetHeader(), err
}
