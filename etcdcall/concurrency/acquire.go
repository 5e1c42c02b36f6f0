package concurrency

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/reprise-go/reprise/etcdcall"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	v3 "go.etcd.io/etcd/client/v3"
)

// acquire takes a place in the queue and waits until it is at the head:
//
//  1. create the key, bound to the session's lease, and read in the same
//     transaction who is before it; or, unless the lock is busy, create it if
//     nobody is. If nobody is, that was all: one round trip. The creation is
//     guarded by the key's absence, so that the transaction can be repeated
//     after a lost response and finds what it has created.
//  2. wait until nobody is before it: by a watch over the whole queue, see queueWatch;
//     or, in a crowded one, until the one before is gone, see wait.
//  3. if any of that fails, the claim is abandoned: nothing of it stays behind.
//
// busy says that the last claim of the same kind had to wait, and is told of this
// one.
func (c *claim) acquire(ctx context.Context, value string, busy *atomic.Bool) error {
	bound, release := c.term.bound(ctx)
	defer release()
	defer c.queue.leave(c)
	found, err := c.enter(bound, value, !busy.Load())
	busy.Store(!found.head())
	switch {
	case err != nil || found.head():
	case c.queue.join(c, &found):
		err = c.await(bound)
	default:
		err = c.wait(bound, found)
	}
	if err != nil {
		c.abandon()
		return c.term.explain(err)
	}
	return nil
}

// tryAcquire takes a place only if it is at the head, and returns ErrLocked
// otherwise.
func (c *claim) tryAcquire(ctx context.Context) error {
	bound, release := c.term.bound(ctx)
	defer release()
	defer c.queue.leave(c)
	found, err := c.enter(bound, "", true, c.alone())
	switch {
	case err != nil:
		c.abandon()
		return c.term.explain(err)
	case c.rev == 0:
		c.give()
		c.retire()
		return ErrLocked
	case !found.head():
		c.abandon()
		return ErrLocked
	}
	return nil
}

// enter creates the key, or finds it if it exists, and returns who is before the
// claim. If the comparisons of onlyIf do not hold, it does neither, and c.rev stays
// 0.
//
// If calm, the first attempt asks for less: to create the key if nobody is
// before it. To read who that is would cost the server a tenth of the whole. The
// answer that somebody is costs one more round trip, unless onlyIf says the same.
func (c *claim) enter(ctx context.Context, value string, calm bool, onlyIf ...v3.Cmp) (place, error) {
	put := c.create(value)
	var asked time.Time
	resp, err := repeatable(ctx, c.term.attempts, func(ctx context.Context) (*v3.TxnResponse, error) {
		if calm {
			calm = false
			resp, err := c.note(c.client().Txn(ctx).If(c.alone()).Then(put).Commit())
			if err != nil || resp.Succeeded || len(onlyIf) > 0 {
				return resp, err
			}
		}
		c.queue.arrive(c)
		asked = time.Now()
		rivals := youngest(c.rivals, c.queue.reach())
		return c.note(c.client().Txn(ctx).
			If(append(slices.Clip(onlyIf), created(c.key, pb.Compare_EQUAL, 0))...).
			Then(put, rivals).
			Else(v3.OpGet(c.key), rivals).
			Commit())
	})
	if err != nil {
		return place{}, err
	}
	c.header = resp.Header
	alone := len(resp.Responses) < 2
	if resp.Succeeded {
		c.rev = resp.Header.Revision
	} else if alone {
		return place{}, nil
	} else if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		c.existed, c.rev, c.value = true, kvs[0].CreateRevision, string(kvs[0].Value)
	} else {
		return place{}, nil
	}
	if alone {
		return place{}, nil
	}
	return c.among(ctx, resp.Responses[1].GetResponseRange(), asked)
}

// note notes whether the key may be created later.
func (c *claim) note(resp *v3.TxnResponse, err error) (*v3.TxnResponse, error) {
	if err != nil && etcdcall.OutcomeOf(err) != etcdcall.NotApplied {
		c.uncertain = true
	}
	return resp, err
}

// among finds the place of the claim among its youngest rivals, with itself.
func (c *claim) among(ctx context.Context, youngest *pb.RangeResponse, asked time.Time) (place, error) {
	known := int64(0)
	if int64(len(youngest.Kvs)) == youngest.Count {
		known = c.header.Revision
	}
	for i, kv := range youngest.Kvs {
		if kv.CreateRevision < c.rev {
			return place{youngest.Kvs[i:], known, asked}, nil
		}
	}
	if known > 0 {
		return place{}, nil
	}
	// Younger claims hide those that are older.
	return c.look(ctx, c.rev)
}

// look reads who is before the claim, and whether its own key is there, at
// revision since or later. Every member that has that revision may answer, since
// keys that are older than the claim's only ever go; the others are not asked
// twice.
func (c *claim) look(ctx context.Context, since int64) (place, error) {
	asked := time.Now()
	resp, err := repeatable(ctx, c.term.attempts, func(ctx context.Context) (*v3.TxnResponse, error) {
		resp, err := c.read(ctx, v3.WithSerializable())
		if err == nil && resp.Header.Revision < since {
			return c.read(ctx)
		}
		return resp, err
	})
	if err != nil {
		return place{}, err
	}
	own := resp.Responses[0].GetResponseRange().Kvs
	if len(own) == 0 || own[0].CreateRevision != c.rev {
		return place{}, c.missing(ctx)
	}
	c.header = resp.Header
	ahead := resp.Responses[1].GetResponseRange().Kvs
	p := place{ahead: ahead, asked: asked}
	if len(ahead) < sight {
		p.known = resp.Header.Revision
	}
	return p, nil
}

// read reads the key of the claim and its older rivals.
func (c *claim) read(ctx context.Context, opts ...v3.OpOption) (*v3.TxnResponse, error) {
	own := v3.OpGet(c.key, append(opts, v3.WithKeysOnly())...)
	older := youngest(c.rivals, sight, append(opts, v3.WithMaxCreateRev(c.rev-1))...)
	return c.client().Txn(ctx).Then(own, older).Commit()
}

// missing returns the error of a claim that waits, and whose key is gone: ErrLeaseNotFound
// if the lease is gone as well.
func (c *claim) missing(ctx context.Context) error {
	l, err := repeatable(ctx, c.term.attempts, func(ctx context.Context) (*v3.LeaseTimeToLiveResponse, error) {
		return c.client().TimeToLive(ctx, c.term.lease)
	})
	switch {
	case err != nil:
		return err
	case l.TTL < 0:
		return rpctypes.ErrLeaseNotFound
	default:
		return &LostError{Key: c.key, Rev: c.rev, Err: errDeleted}
	}
}
