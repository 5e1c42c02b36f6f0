package concurrency

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/reprise-go/reprise/etcdcall"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// acquire takes a place in the queue and waits until it is at the head:
//
//  1. create the key, bound to the session's lease, and read in the same
//     transaction who is before it; or, unless the lock is busy, create it if
//     nobody is. If nobody is, that was all: one round trip. The creation is
//     guarded by the key's absence, so that the transaction can be repeated
//     after a lost response and finds what it has created.
//  2. wait until the one before is gone. That is one event of one watch, and
//     nobody else hears it.
//  3. read who is before now, at that event's revision or later: it may have been
//     somebody who was still waiting and gave up. If nobody is, and the key itself
//     is there still, the claim is at the head. So it was at the head while acquire
//     ran, by the word of the store.
//  4. if any of that fails, the claim is abandoned: nothing of it stays behind.
//
// busy says that the last claim of the same kind had to wait, and is told of this
// one.
func (c *claim) acquire(ctx context.Context, value string, busy *atomic.Bool) error {
	bound, release := c.term.bound(ctx)
	defer release()
	before, err := c.enter(bound, value, !busy.Load())
	busy.Store(before != nil)
	for err == nil && before != nil {
		var gone int64
		if gone, err = c.await(bound, before); err == nil {
			before, err = c.look(bound, gone)
		}
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
	before, err := c.enter(bound, "", true, nobody(c.rivals))
	switch {
	case err != nil:
		c.abandon()
		return c.term.explain(err)
	case c.rev == 0:
		c.give()
		c.retire()
		return ErrLocked
	case before != nil:
		c.abandon()
		return ErrLocked
	}
	return nil
}

// enter creates the key, or finds it if it exists, and returns the one that the
// claim has to wait for, if any. If the comparisons of onlyIf do not hold, it
// does neither, and c.rev stays 0.
//
// If calm, the first attempt asks for less: to create the key if nobody is
// before it. To read who that is would cost the server a tenth of the whole. The
// answer that somebody is costs one more round trip, unless onlyIf says the same.
func (c *claim) enter(ctx context.Context, value string, calm bool, onlyIf ...v3.Cmp) (before *mvccpb.KeyValue, err error) {
	put := v3.OpPut(c.key, value, v3.WithLease(c.term.lease))
	resp, err := repeatable(ctx, c.term.attempts, func(ctx context.Context) (*v3.TxnResponse, error) {
		if calm {
			calm = false
			resp, err := c.note(c.client().Txn(ctx).If(nobody(c.rivals)).Then(put).Commit())
			if err != nil || resp.Succeeded || len(onlyIf) > 0 {
				return resp, err
			}
		}
		rivals := youngest(c.rivals)
		return c.note(c.client().Txn(ctx).
			If(append(slices.Clip(onlyIf), created(c.key, pb.Compare_EQUAL, 0))...).
			Then(put, rivals).
			Else(v3.OpGet(c.key), rivals).
			Commit())
	})
	if err != nil {
		return nil, err
	}
	c.header = resp.Header
	alone := len(resp.Responses) < 2
	if resp.Succeeded {
		c.rev = resp.Header.Revision
	} else if alone {
		return nil, nil
	} else if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		c.existed, c.rev, c.value = true, kvs[0].CreateRevision, string(kvs[0].Value)
	} else {
		return nil, nil
	}
	if alone {
		return nil, nil
	}
	return c.after(ctx, resp.Responses[1].GetResponseRange().Kvs)
}

// note notes whether the key may be created later.
func (c *claim) note(resp *v3.TxnResponse, err error) (*v3.TxnResponse, error) {
	if err != nil && etcdcall.OutcomeOf(err) != etcdcall.NotApplied {
		c.uncertain = true
	}
	return resp, err
}

// after picks the one that the claim has to wait for from its youngest rivals.
func (c *claim) after(ctx context.Context, youngest []*mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
	for _, kv := range youngest {
		if kv.CreateRevision < c.rev {
			return kv, nil
		}
	}
	if len(youngest) < 2 {
		return nil, nil
	}
	// Younger claims hide those that are older.
	return c.look(ctx, c.rev)
}

// await waits until the one before is gone, and returns a revision at which it
// was.
func (c *claim) await(ctx context.Context, before *mvccpb.KeyValue) (int64, error) {
	gone := make(chan int64, 1)
	end := c.queue.watch(string(before.Key), before.CreateRevision, func(rev int64) { gone <- rev })
	select {
	case rev := <-gone:
		return rev, nil
	case <-ctx.Done():
		end()
		return 0, ctx.Err()
	}
}

// look reads who is before the claim, and whether its own key is there, at
// revision since or later. Every member that has that revision may answer, since
// keys that are older than the claim's only ever go; the others are not asked
// twice.
func (c *claim) look(ctx context.Context, since int64) (before *mvccpb.KeyValue, err error) {
	resp, err := repeatable(ctx, c.term.attempts, func(ctx context.Context) (*v3.TxnResponse, error) {
		resp, err := c.read(ctx, v3.WithSerializable())
		if err == nil && resp.Header.Revision < since {
			return c.read(ctx)
		}
		return resp, err
	})
	if err != nil {
		return nil, err
	}
	own := resp.Responses[0].GetResponseRange().Kvs
	if len(own) == 0 || own[0].CreateRevision != c.rev {
		return nil, &LostError{Key: c.key, Rev: c.rev, Err: errDeleted}
	}
	c.header = resp.Header
	if kvs := resp.Responses[1].GetResponseRange().Kvs; len(kvs) > 0 {
		return kvs[0], nil
	}
	return nil, nil
}

// read reads the key of the claim and its older rivals.
func (c *claim) read(ctx context.Context, opts ...v3.OpOption) (*v3.TxnResponse, error) {
	own := v3.OpGet(c.key, append(opts, v3.WithKeysOnly())...)
	older := youngest(c.rivals, append(opts, v3.WithMaxCreateRev(c.rev-1))...)
	return c.client().Txn(ctx).Then(own, older).Commit()
}
