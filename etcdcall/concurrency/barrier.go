package concurrency

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"

	"github.com/reprise-go/reprise/etcdcall/internal/patience"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// ErrBarrierHeld is returned by [Barrier.Hold] when somebody else holds the
// barrier.
var ErrBarrierHeld = errors.New("barrier: held by somebody else")

// Barrier makes processes wait until the one that holds it lets them go. It
// stands for as long as its key exists. With [NewBarrier] that is until it is
// released, even if its holder has died. A Barrier is safe for concurrent use; Hold
// and Release wait for each other, within their contexts.
type Barrier struct {
	client   *v3.Client
	key      string
	attempts *patience.Patience

	turns turns // of Hold and Release, which guard what follows

	mark string // what the key holds while this Barrier holds it
	rev  int64  // its create revision, 0 unless that is known
}

// NewBarrier returns the barrier of the name key, which is its only key.
func NewBarrier(client *v3.Client, key string) *Barrier {
	return &Barrier{client: client, key: key, attempts: newAttempts(), turns: newTurns()}
}

// Hold raises the barrier. It returns ErrBarrierHeld if it stands already, unless
// this Barrier raised it.
//
// A request whose answer is lost is made again. Should the first one be applied
// after all, and only when the barrier was released, it stands once more, until
// somebody releases it.
func (b *Barrier) Hold(ctx context.Context) error {
	if err := b.turns.take(ctx); err != nil {
		return err
	}
	defer b.turns.end()
	mark := b.mark
	if mark == "" {
		mark = strconv.FormatUint(rand.Uint64(), 16)
	}
	resp, err := repeatable(ctx, b.attempts, func(ctx context.Context) (*v3.TxnResponse, error) {
		return b.client.Txn(ctx).
			If(v3.Compare(v3.CreateRevision(b.key), "=", 0)).
			Then(v3.OpPut(b.key, mark)).
			Else(v3.OpGet(b.key)).Commit()
	})
	if err != nil {
		b.mark = mark // it may stand: Hold again, or Release
		return err
	}
	rev := resp.Header.Revision
	if !resp.Succeeded {
		kvs := resp.Responses[0].GetResponseRange().Kvs
		if len(kvs) == 0 || string(kvs[0].Value) != mark {
			return ErrBarrierHeld
		}
		rev = kvs[0].CreateRevision
	}
	b.mark, b.rev = mark, rev
	return nil
}

// Release takes the barrier down and lets all who wait go: the one that this
// Barrier raised, or, if it raised none, the one that stands, whoever raised it.
// A barrier that does not stand is no error. One that is raised later stays,
// whatever becomes of the request.
func (b *Barrier) Release(ctx context.Context) error {
	if err := b.turns.take(ctx); err != nil {
		return err
	}
	defer b.turns.end()
	rev := b.rev
	if rev == 0 {
		resp, err := repeatable(ctx, b.attempts, func(ctx context.Context) (*v3.GetResponse, error) {
			return b.client.Get(ctx, b.key, v3.WithKeysOnly())
		})
		if err != nil {
			return err
		}
		if len(resp.Kvs) > 0 {
			rev = resp.Kvs[0].CreateRevision
		}
	}
	_, err := repeatable(ctx, b.attempts, func(ctx context.Context) (*v3.TxnResponse, error) {
		return b.client.Txn(ctx).If(created(b.key, pb.Compare_LESS, rev+1)).Then(v3.OpDelete(b.key)).Commit()
	})
	if err == nil {
		b.mark, b.rev = "", 0
	}
	return err
}

// Wait waits until the barrier does not stand. It costs one round trip if it does
// not stand now.
func (b *Barrier) Wait(ctx context.Context) error {
	resp, err := repeatable(ctx, b.attempts, func(ctx context.Context) (*v3.GetResponse, error) {
		return b.client.Get(ctx, b.key, v3.WithKeysOnly())
	})
	if err != nil || len(resp.Kvs) == 0 {
		return err
	}
	wait, done := context.WithCancel(ctx)
	defer done()
	unhook := context.AfterFunc(b.client.Ctx(), done)
	defer unhook()
	w := &absence{done: done}
	follow(wait, b.client, followed{
		key:   b.key,
		watch: []v3.OpOption{v3.WithFilterPut()},
		get:   []v3.OpOption{v3.WithKeysOnly()},
	}, w)
	switch {
	case w.gone:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return context.Cause(b.client.Ctx())
	}
}

// absence is a follower that is done when its key is gone.
type absence struct {
	done context.CancelFunc
	gone bool
}

// restarted implements follower.
func (a *absence) restarted(snapshot *v3.GetResponse) {
	if len(snapshot.Kvs) == 0 {
		a.end()
	}
}

// moved implements follower.
func (a *absence) moved(*v3.WatchResponse) { a.end() }

func (a *absence) end() {
	a.gone = true
	a.done()
}
