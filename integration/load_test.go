package integration_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/integration/check"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// A loader is one client under load, with what its errors mean.
type loader struct {
	kv      clientv3.KV
	outcome func(error) check.Outcome
}

// A load is reads, writes and swaps of several clients on few keys, recorded
// for package check. Every value is written once.
type load struct {
	clients int
	keys    int
	pace    time.Duration // between the calls of one client
	timeout time.Duration // of one call
	done    *atomic.Int64 // counts the calls that succeeded
}

// breathe waits until the clients got some calls through, at most for ten
// seconds: on a slow machine the next trouble would come before they are over
// the last, and nothing would ever be done.
func breathe(ctx context.Context, done *atomic.Int64) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for enough := done.Load() + 5; done.Load() < enough && ctx.Err() == nil; {
		_ = reprise.Sleep(ctx, 5*time.Millisecond)
	}
}

// run loads the cluster until ctx ends, and waits for the calls under way.
func (l load) run(ctx context.Context, loaders []loader) *check.History {
	h := &check.History{}
	var wg sync.WaitGroup
	for i := range l.clients {
		wg.Go(func() { l.client(ctx, h, i, loaders[i]) })
	}
	wg.Wait()
	return h
}

func (l load) client(ctx context.Context, h *check.History, id int, with loader) {
	random := rand.New(rand.NewPCG(uint64(id), 1))
	tick := time.NewTicker(l.pace)
	defer tick.Stop()
	last := make(map[string]string) // what this client saw at a key
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		op := check.Op{Client: id, Key: fmt.Sprint("key", random.IntN(l.keys)), Value: fmt.Sprintf("%d.%d", id, n)}
		switch p := random.IntN(10); {
		case p < 5:
			op.Kind = check.Get
		case p < 9:
			op.Kind = check.Put
		default:
			op.Kind, op.Old = check.CAS, last[op.Key]
		}
		// The call goes on when the load ends: cutting it would only make
		// its outcome unknown.
		callCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.timeout)
		pending := h.Begin(op)
		got, swapped, err := do(callCtx, with.kv, op)
		pending.End(func(op *check.Op) {
			op.Got, op.Swapped, op.Outcome = got, swapped, check.Applied
			if err != nil {
				op.Outcome = with.outcome(err)
			}
		})
		cancel()
		if err == nil {
			l.done.Add(1)
		}
		if op.Kind == check.Get && err == nil {
			last[op.Key] = got
		}
	}
}

// do makes one call.
func do(ctx context.Context, kv clientv3.KV, op check.Op) (got string, swapped bool, err error) {
	switch op.Kind {
	case check.Get:
		r, err := kv.Get(ctx, op.Key)
		if err == nil && len(r.Kvs) > 0 {
			got = string(r.Kvs[0].Value)
		}
		return got, false, err
	case check.Put:
		_, err = kv.Put(ctx, op.Key, op.Value)
		return "", false, err
	default:
		is := clientv3.Compare(clientv3.Value(op.Key), "=", op.Old)
		if op.Old == "" {
			is = clientv3.Compare(clientv3.CreateRevision(op.Key), "=", 0)
		}
		r, err := kv.Txn(ctx).If(is).Then(clientv3.OpPut(op.Key, op.Value)).Commit()
		return "", err == nil && r.Succeeded, err
	}
}

var lossOfPut = etcdtest.Fault{Method: etcdtest.MethodPut, After: true, Answer: etcdtest.Lose()}

// unrest kills the leader and starts it again, a second after the clients are
// over the last time, and loses the response to a write every 50 ms in between,
// until ctx ends. It returns how many times it did either.
func unrest(ctx context.Context, c *etcdtest.Cluster, done *atomic.Int64) (kills, losses int, err error) {
	second, often := time.NewTicker(time.Second), time.NewTicker(50*time.Millisecond)
	defer second.Stop()
	defer often.Stop()
	loss, err := c.Inject(lossOfPut)
	if err != nil {
		return 0, 0, err
	}
	for {
		select {
		case <-second.C:
			leader, err := c.WaitLeader(context.WithoutCancel(ctx))
			if err != nil {
				return kills, losses, err
			}
			if err := leader.Kill(); err != nil {
				return kills, losses, err
			}
			if err := leader.Restart(context.WithoutCancel(ctx)); err != nil {
				return kills, losses, err
			}
			kills++
			breathe(ctx, done)
			second.Reset(time.Second)
		case <-often.C:
			losses += loss.Fired()
			loss.Stop()
			if loss, err = c.Inject(lossOfPut); err != nil {
				return kills, losses, err
			}
		case <-ctx.Done():
			loss.Stop()
			return kills, losses + loss.Fired(), nil
		}
	}
}

// underUnrest runs the load on three members under unrest, and returns what
// the clients saw. Where a slow machine did too little to prove anything, it
// runs it again, for twice as long, and the members wait twice as long for a
// sign of their leader: one that gets no time to give it is deposed again and
// again.
func underUnrest(t *testing.T, connect func(t *testing.T, cfg clientv3.Config) loader) []check.Op {
	t.Helper()
	for slower := time.Duration(1); slower <= 16; slower *= 2 {
		var ops []check.Op
		enough := false
		// Each run has its own subtest, so that its cluster does not outlive it.
		if !t.Run(fmt.Sprint(slower*campaignTime()), func(t *testing.T) {
			ops, enough = unrestFor(t, slower, connect)
		}) {
			t.FailNow()
		}
		if enough {
			return ops
		}
	}
	t.Fatal("too little happened to prove anything")
	return nil
}

// judged judges histories until one is decided. One in which the fate of many
// writes is unknown may take too long.
func judged(t *testing.T, history func() []check.Op) error {
	t.Helper()
	var err error
	for range 3 {
		if err = check.Linearizable(history(), time.Minute); !errors.Is(err, check.ErrUndecided) {
			return err
		}
		t.Log(err)
	}
	return err
}

func unrestFor(t *testing.T, slower time.Duration, connect func(t *testing.T, cfg clientv3.Config) loader) (ops []check.Op, enough bool) {
	t.Helper()
	c := etcdtest.New(t, etcdtest.WithMembers(3),
		etcdtest.WithTick(slower*10*time.Millisecond, slower*100*time.Millisecond))
	l := load{clients: 5, keys: 2, pace: 2 * time.Millisecond, timeout: 3 * time.Second, done: new(atomic.Int64)}
	loaders := make([]loader, l.clients)
	for i := range loaders {
		loaders[i] = connect(t, c.Config())
	}
	ctx, cancel := context.WithTimeout(t.Context(), slower*campaignTime())
	defer cancel()
	var history *check.History
	var wg sync.WaitGroup
	wg.Go(func() { history = l.run(ctx, loaders) })
	kills, losses, err := unrest(ctx, c, l.done)
	wg.Wait()
	must(t, err)

	ops = history.Ops()
	count := make(map[check.Outcome]int)
	for _, op := range ops {
		count[op.Outcome]++
	}
	t.Logf("%d operations: %d applied, %d not applied, %d unknown; leader killed %d times, %d responses lost",
		len(ops), count[check.Applied], count[check.NotApplied], count[check.Unknown], kills, losses)
	return ops, kills > 0 && losses > 0 && count[check.Applied] >= 100
}
