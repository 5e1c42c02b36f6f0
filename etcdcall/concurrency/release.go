package concurrency

import (
	"context"
	"errors"
	"time"

	"github.com/reprise-go/reprise"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// finding is what release found.
type finding uint8

const (
	deleted finding = iota + 1 // the key, and deleted it
	missing                    // no key, before it could have deleted it
	absent                     // no key, perhaps since an attempt without an answer has deleted it
)

// release deletes the key of c that was created at revision rev, and nothing but
// that key: one of the same name that was created later stays, even if the request
// is applied later than that.
//
// The comparison holds for a missing key too, so that no client takes it for a
// guard and bounds the attempt a second time; see timed.
func (c *claim) release(ctx context.Context, rev int64) (finding, *pb.ResponseHeader, error) {
	attempts := 0
	resp, err := repeatable(ctx, func(ctx context.Context) (*v3.TxnResponse, error) {
		attempts++
		return c.client().Txn(ctx).If(created(c.key, pb.Compare_LESS, rev+1)).Then(v3.OpDelete(c.key)).Commit()
	})
	switch {
	case err != nil:
		return 0, nil, err
	case resp.Succeeded && resp.Responses[0].GetResponseDeleteRange().Deleted > 0:
		return deleted, resp.Header, nil
	case attempts == 1:
		return missing, resp.Header, nil
	default:
		return absent, resp.Header, nil
	}
}

// giveBack ends the claim of a holder. A claim that was lost before gives a
// LostError. After any other error it goes on in the background, see settled.
func (c *claim) giveBack(ctx context.Context) (*pb.ResponseHeader, error) {
	lost := c.loss()
	c.give()
	if lost != nil {
		c.retire()
		return nil, lost
	}
	found, header, err := c.release(ctx, c.rev)
	if err != nil {
		c.abandon()
		return nil, err
	}
	c.retire()
	if found == missing {
		return header, &LostError{Key: c.key, Rev: c.rev, Err: errDeleted}
	}
	return header, nil
}

// abandon gives c up and returns at once. The key is deleted in the background,
// for as long as the session can have it.
func (c *claim) abandon() {
	c.give()
	c.inBackground(func(ctx context.Context) {
		if c.withdraw() == nil {
			c.lookOut(ctx)
		}
		c.vacate()
	})
}

// withdraw deletes the key of c, if there is one.
func (c *claim) withdraw() error {
	if c.rev == 0 {
		return c.clear(c.term.ctx)
	}
	_, _, err := c.release(c.term.ctx, c.rev)
	return err
}

// retire ends the use of the key of c, which is gone.
func (c *claim) retire() {
	if !c.uncertain {
		c.vacate()
		return
	}
	c.inBackground(func(ctx context.Context) {
		c.lookOut(ctx)
		c.vacate()
	})
}

// lookOut deletes the key if it comes back. If the request to create it was sent
// several times, or its outcome is unknown, it may be applied late. Until that
// cannot happen any more, the name is not used again.
func (c *claim) lookOut(ctx context.Context) {
	if !c.uncertain {
		return
	}
	_ = reprise.Invoke(ctx, func(ctx context.Context, _ reprise.CallSettings) error {
		return errors.Join(errNotYet, c.clear(ctx))
	}, reprise.WithMaxElapsed(lateness), reprise.WithRetry(func() reprise.Retryer {
		return reprise.OnErrorFunc(lookouts, func(error) bool { return true })
	}))
	c.uncertain = ctx.Err() != nil
}

// clear deletes the key of c, whose revision is not known, as it finds it. To
// delete it by its name alone could take the key of the next claim. A deletion
// that has begun does not end with ctx: the next claim could find the key that it
// is about to delete, and take it for its own.
func (c *claim) clear(ctx context.Context) error {
	found, err := repeatable(ctx, func(ctx context.Context) (*v3.GetResponse, error) {
		return c.client().Get(ctx, c.key, v3.WithKeysOnly())
	})
	if err != nil || len(found.Kvs) == 0 {
		return err
	}
	_, _, err = c.release(c.term.ctx, found.Kvs[0].CreateRevision)
	return err
}

// lateness is how long after it was sent a request is applied at most. A server
// gives up on a proposal after some seconds.
const lateness = 30 * time.Second

// lookouts are the pauses between looking for keys that come late.
var lookouts = reprise.Backoff{Initial: 50 * time.Millisecond, Max: 2 * time.Second, Jitter: reprise.JitterEqual}

var errNotYet = errors.New("concurrency: the key may still come")

// work is what is done for a claim in the background.
type work struct {
	done chan struct{}
	halt context.CancelFunc
}

// inBackground does task for as long as the term lasts. Its context ends earlier
// if somebody wants the claim settled.
func (c *claim) inBackground(task func(ctx context.Context)) {
	ctx, halt := context.WithCancel(c.term.ctx)
	w := &work{make(chan struct{}), halt}
	c.work = w
	began := c.queue.session.spawn(func() {
		defer close(w.done)
		defer halt()
		task(ctx)
	})
	if !began {
		halt()
		close(w.done)
	}
}

// settled waits until nothing is done for the claim in the background any more.
// To look out for a key that comes late is not waited for, but the deletion of
// one that came is.
func (c *claim) settled(ctx context.Context) error {
	if c.work == nil {
		return nil
	}
	c.work.halt()
	select {
	case <-c.work.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
