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
// guard and bounds the attempt a second time; see attempt.
func (c *claim) release(ctx context.Context, rev int64) (finding, *pb.ResponseHeader, error) {
	attempts := 0
	resp, err := repeatable(ctx, c.queue.session.attempts, func(ctx context.Context) (*v3.TxnResponse, error) {
		attempts++
		return c.client().Txn(ctx).If(created(c.key, pb.Compare_LESS, rev+1)).Then(c.remove()).Commit()
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
	if lost := c.yield(); lost != nil {
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
	c.inBackground(c.withdraw)
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
	c.inBackground(func() error { return nil })
}

// clear deletes the key of c, whose revision is not known, as it finds it. To
// delete it by its name alone could take the key of the next claim.
func (c *claim) clear(ctx context.Context) error {
	found, err := repeatable(ctx, c.queue.session.attempts, func(ctx context.Context) (*v3.GetResponse, error) {
		return c.client().Get(ctx, c.key, v3.WithKeysOnly())
	})
	if err != nil || len(found.Kvs) == 0 {
		return err
	}
	_, _, err = c.release(ctx, found.Kvs[0].CreateRevision)
	return err
}

// work is what is done for a claim in the background: its key is withdrawn, and
// then looked out for.
type work struct {
	withdrawn, done chan struct{} // closed when that is over, or everything
	// looking is full while the key is looked for, and for good after the last
	// time.
	looking chan struct{}
	halt    context.CancelFunc // ends the look-out
}

// inBackground withdraws the key of c, looks out for it, and then lets its name be
// used again. When the term ends, so does all that: a name of the next has another lease.
func (c *claim) inBackground(withdraw func() error) {
	ctx, halt := context.WithCancel(c.term.ctx)
	w := &work{make(chan struct{}), make(chan struct{}), make(chan struct{}, 1), halt}
	c.mu.Lock()
	c.work = w
	c.mu.Unlock()
	began := c.queue.session.spawn(func() {
		defer close(w.done)
		defer halt()
		err := withdraw()
		close(w.withdrawn)
		if err != nil && c.term.ctx.Err() == nil {
			return // the key may be there still, and its name stays taken
		}
		if c.uncertain {
			c.lookOut(ctx, w)
		}
		c.vacate()
	})
	if !began {
		halt()
		close(w.withdrawn)
		close(w.done)
	}
}

// lookOut deletes the key if it comes back. If the request to create it was sent
// several times, or its outcome is unknown, it may be applied late. Until that
// cannot happen any more, the name is not used again.
func (c *claim) lookOut(ctx context.Context, w *work) {
	_ = reprise.Invoke(ctx, func(ctx context.Context, _ reprise.CallSettings) error {
		select {
		case w.looking <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-w.looking }()
		return errors.Join(errNotYet, c.clear(ctx))
	}, reprise.WithMaxElapsed(lateness), reprise.WithRetry(func() reprise.Retryer {
		return reprise.OnErrorFunc(lookouts, func(error) bool { return true })
	}))
	c.uncertain = ctx.Err() != nil
}

// withdrawn waits until the key of c is withdrawn, if that is under way.
func (c *claim) withdrawn(ctx context.Context) error {
	w := c.working()
	if w == nil {
		return nil
	}
	select {
	case <-w.withdrawn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settled waits until the key of c is withdrawn, and ends the look-out for it. What
// that has found is deleted before: the next claim of the name could take it for
// its own. If ctx ends, the look-out goes on.
func (c *claim) settled(ctx context.Context) error {
	if err := c.withdrawn(ctx); err != nil {
		return err
	}
	w := c.working()
	if w == nil {
		return nil
	}
	select {
	case w.looking <- struct{}{}:
		w.halt()
		<-w.done
		return nil
	case <-w.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *claim) working() *work {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.work
}

// lateness is how long after it was sent a request is applied at most. A server
// gives up on a proposal after some seconds.
const lateness = 30 * time.Second

// lookouts are the pauses between looking for keys that come late.
var lookouts = reprise.Backoff{Initial: 50 * time.Millisecond, Max: 2 * time.Second, Jitter: reprise.JitterEqual}

var errNotYet = errors.New("concurrency: the key may still come")
