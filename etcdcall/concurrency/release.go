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

// release deletes the key of c, and nothing but that key: one of the same name
// that was created later stays.
//
// The comparison holds for a missing key too, so that no client takes it for a
// guard and bounds the attempt a second time; see timed.
func (c *claim) release(ctx context.Context) (finding, *pb.ResponseHeader, error) {
	own := created(c.key, pb.Compare_LESS, c.rev+1)
	if c.rev == 0 {
		own = created(c.key, pb.Compare_GREATER, 0)
	}
	attempts := 0
	resp, err := repeatable(ctx, func(ctx context.Context) (*v3.TxnResponse, error) {
		attempts++
		return c.client().Txn(ctx).If(own).Then(v3.OpDelete(c.key)).Commit()
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
	found, header, err := c.release(ctx)
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
		_, _, err := c.release(c.term.ctx)
		if err == nil {
			c.lookOut(ctx)
		}
		c.vacate()
	})
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
		return errors.Join(errNotYet, c.deleteLate(ctx))
	}, reprise.WithMaxElapsed(lateness), reprise.WithRetry(func() reprise.Retryer {
		return reprise.OnErrorFunc(lookouts, func(error) bool { return true })
	}))
	c.uncertain = ctx.Err() != nil
}

// deleteLate deletes the key if it is there, as it was seen: a deletion that is
// applied late itself must not take the key of the next claim with this name.
func (c *claim) deleteLate(ctx context.Context) error {
	seen, err := c.client().Get(ctx, c.key)
	if err != nil || len(seen.Kvs) == 0 {
		return err
	}
	own := created(c.key, pb.Compare_LESS, seen.Kvs[0].CreateRevision+1)
	_, err = repeatable(ctx, func(ctx context.Context) (*v3.TxnResponse, error) {
		return c.client().Txn(ctx).If(own).Then(v3.OpDelete(c.key)).Commit()
	})
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
// To look out for a key that comes late is not waited for.
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
