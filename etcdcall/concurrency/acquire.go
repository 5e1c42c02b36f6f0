package concurrency

import (
	"context"
	"errors"
	"time"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	"go.etcd.io/etcd/api/v3/mvccpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// listing is the oldest keys under a prefix, as they were at a revision.
type listing struct {
	kvs  []*mvccpb.KeyValue
	rev  int64
	more bool // there are younger keys that are not listed
}

// listLimit bounds a listing. A claim that has more keys ahead lists again when
// these are gone.
const listLimit = 128

var listOptions = []v3.OpOption{
	v3.WithPrefix(), v3.WithKeysOnly(), v3.WithLimit(listLimit),
	v3.WithSort(v3.SortByCreateRevision, v3.SortAscend),
}

// covers reports whether every key that is older than c is listed.
func (l *listing) covers(c *claim) bool {
	return !l.more || l.kvs[len(l.kvs)-1].CreateRevision >= c.rev
}

// acquire takes a place in the queue and waits until it is at the head:
//
//  1. create the key, bound to the session's lease, and list in the same
//     transaction who is ahead. If nobody is, that was all: one round trip. The
//     creation is guarded by the key's absence, so that the transaction can be
//     repeated after a lost response and finds what it has created.
//  2. wait until all who are ahead are gone. Their going is an event of the
//     queue's watch, so that nothing has to be asked when it happens: a lock is
//     handed over in the time of one round trip.
//  3. if either fails, the claim is abandoned: nothing of it stays behind.
func (q *queue) acquire(ctx context.Context, t *term, key, value string) (*claim, error) {
	c := newClaim(t, key)
	err := q.enter(ctx, c, value)
	if err == nil && !c.isHead {
		q.join(c)
		err = q.wait(ctx, c)
	}
	if err != nil {
		q.abandon(c)
		return nil, err
	}
	return c, nil
}

// enter creates the key of c, or finds it if it exists. If the comparisons of
// onlyIf do not hold, it does neither, and c.rev stays 0.
func (q *queue) enter(ctx context.Context, c *claim, value string, onlyIf ...v3.Cmp) error {
	bound, release := c.term.bound(ctx)
	defer release()
	absent := append(onlyIf, v3.Compare(v3.CreateRevision(c.key), "=", 0))
	put := v3.OpPut(c.key, value, v3.WithLease(c.term.lease))
	own, list := v3.OpGet(c.key), v3.OpGet(q.prefix, listOptions...)

	return q.listing(func() error {
		resp, err := commit(bound, q.session.client, absent, []v3.Op{put, list}, []v3.Op{own, list})
		if err != nil {
			c.uncertain = etcdcall.OutcomeOf(err) != etcdcall.NotApplied
			return c.term.explain(err)
		}
		q.read(c, resp)
		if c.rev != 0 && q.follows() {
			q.join(c)
		}
		return nil
	})
}

// read takes from the response of the transaction of enter where c stands.
func (q *queue) read(c *claim, resp *v3.TxnResponse) {
	c.header = resp.Header
	list := resp.Responses[1].GetResponseRange()
	c.listed = &listing{list.Kvs, resp.Header.Revision, list.More}
	if resp.Succeeded {
		c.rev = resp.Header.Revision
	} else if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		c.rev, c.value = kvs[0].CreateRevision, string(kvs[0].Value)
	}
	for _, e := range q.headsOf(c.listed) {
		c.isHead = c.isHead || e.key == c.key && e.create == c.rev
	}
}

// headsOf returns those whom a listing shows at the head of the queue.
func (q *queue) headsOf(l *listing) []*entry {
	order := make([]*entry, len(l.kvs))
	for i, kv := range l.kvs {
		order[i] = &entry{string(kv.Key), kv.CreateRevision}
	}
	return order[:q.heads(order)]
}

// nobody holds if there is no key under prefix.
func nobody(prefix string) v3.Cmp {
	return v3.Compare(v3.CreateRevision(prefix), "=", 0).WithPrefix()
}

// release deletes the key of c, and nothing but that key: one of the same name
// that was created later stays.
func (q *queue) release(ctx context.Context, c *claim) (finding, error) {
	own := v3.Compare(v3.CreateRevision(c.key), "=", c.rev)
	if c.rev == 0 {
		own = v3.Compare(v3.CreateRevision(c.key), ">", 0)
	}
	attempts := 0
	resp, err := repeatable(ctx, func(ctx context.Context) (*v3.TxnResponse, error) {
		attempts++
		return q.session.client.Txn(ctx).If(own).Then(v3.OpDelete(c.key)).Commit()
	})
	switch {
	case err != nil:
		return 0, err
	case resp.Succeeded:
		return deleted, nil
	case attempts > 1:
		return absent, nil
	default:
		return missing, nil
	}
}

// finding is what release found.
type finding uint8

const (
	deleted finding = iota + 1 // the key, and deleted it
	missing                    // no key, before it could have deleted it
	absent                     // no key, perhaps since an attempt without an answer has deleted it
)

// lateness is how long after its failure the creation of a key is expected to
// happen at most: a server gives up a request after some seconds.
const lateness = 30 * time.Second

var errNotYet = errors.New("concurrency: the key may still come")

// abandon gives c up and returns at once. The key is deleted in the background,
// for as long as the session can have it. If it is not certain whether it will
// come into being, it is looked for again for a while.
func (q *queue) abandon(c *claim) <-chan struct{} {
	done := make(chan struct{})
	c.end(ErrLockReleased)
	q.leave(c)
	ok := q.session.spawn(func() {
		defer close(done)
		_ = reprise.Invoke(c.term.ctx, func(ctx context.Context, _ reprise.CallSettings) error {
			found, err := q.release(ctx, c)
			if err == nil && found != deleted && c.uncertain {
				return errNotYet
			}
			return err
		}, reprise.WithMaxElapsed(lateness), reprise.WithRetry(func() reprise.Retryer {
			return reprise.OnErrorFunc(pauses, func(err error) bool { return errors.Is(err, errNotYet) })
		}))
	})
	if !ok {
		close(done)
	}
	return done
}

// commit makes a repeatable transaction.
func commit(ctx context.Context, cli *v3.Client, cmps []v3.Cmp, then, otherwise []v3.Op) (*v3.TxnResponse, error) {
	return repeatable(ctx, func(ctx context.Context) (*v3.TxnResponse, error) {
		return cli.Txn(ctx).If(cmps...).Then(then...).Else(otherwise...).Commit()
	})
}
