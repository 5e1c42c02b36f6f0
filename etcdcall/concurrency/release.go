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
func (c *claim) release(ctx context.Context) (finding, *pb.ResponseHeader, error) {
	own := c.own()
	if c.rev == 0 {
		own = v3.Compare(v3.CreateRevision(c.key), ">", 0)
	}
	attempts := 0
	resp, err := repeatable(ctx, func(ctx context.Context) (*v3.TxnResponse, error) {
		attempts++
		return c.queue.session.client.Txn(ctx).If(own).Then(v3.OpDelete(c.key)).Commit()
	})
	if err != nil {
		return 0, nil, err
	}
	c.retire()
	switch {
	case resp.Succeeded:
		return deleted, resp.Header, nil
	case attempts == 1:
		return missing, resp.Header, nil
	default:
		return absent, resp.Header, nil
	}
}

// giveBack ends the claim of a holder. If that fails, it goes on in the
// background until going is closed. A claim that was lost before gives a
// LostError.
func (c *claim) giveBack(ctx context.Context) (going <-chan struct{}, header *pb.ResponseHeader, err error) {
	lost := c.loss()
	c.give()
	if lost != nil {
		c.retire()
		return nil, nil, lost
	}
	found, header, err := c.release(ctx)
	switch {
	case err != nil:
		return c.abandon(), nil, err
	case found == missing:
		return nil, header, &LostError{Key: c.key, Rev: c.rev, Err: errDeleted}
	default:
		return nil, header, nil
	}
}

// abandon gives c up and returns at once. The key is deleted in the background,
// for as long as the session can have it. The channel is closed when that is
// over.
func (c *claim) abandon() <-chan struct{} {
	done := make(chan struct{})
	c.give()
	began := c.queue.session.spawn(func() {
		defer close(done)
		if _, _, err := c.release(c.term.ctx); err != nil {
			c.vacate() // what is left of it dies with the lease
		}
	})
	if !began {
		close(done)
	}
	return done
}

// retire lets the name of c, whose key is gone, be used again. If the creation
// of the key was sent several times, or its outcome is unknown, one of the
// requests may be applied late and bring the key back: it is looked for, and the
// name not used, until that cannot happen any more.
func (c *claim) retire() {
	if !c.uncertain {
		c.vacate()
		return
	}
	c.queue.session.spawn(func() {
		_ = reprise.Invoke(c.term.ctx, func(ctx context.Context, _ reprise.CallSettings) error {
			_, err := repeatable(ctx, func(ctx context.Context) (*v3.DeleteResponse, error) {
				return c.queue.session.client.Delete(ctx, c.key)
			})
			return errors.Join(errNotYet, err)
		}, reprise.WithMaxElapsed(lateness), reprise.WithRetry(func() reprise.Retryer {
			return reprise.OnErrorFunc(lookouts, func(error) bool { return true })
		}))
		c.vacate()
	})
}

// lateness is how long after it was sent a request is applied at most. A server
// gives up on a proposal after some seconds.
const lateness = 30 * time.Second

// lookouts are the pauses between looking for keys that come late.
var lookouts = reprise.Backoff{Initial: 50 * time.Millisecond, Max: 2 * time.Second, Jitter: reprise.JitterEqual}

var errNotYet = errors.New("concurrency: the key may still come")
