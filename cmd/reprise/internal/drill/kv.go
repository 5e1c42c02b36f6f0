package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
)

// kvLoad is readers and writers of a few keys. The n-th call is the same for
// every side: its time, its key, and whether it reads or writes. Every written
// value is written once.
type kvLoad struct {
	clients []*clientv3.Client
	prefix  string
	seed    uint64
	rate    int
	timeout time.Duration
	start   time.Time // of the side
	next    int       // number of the next call
	calls   calls
	running sync.WaitGroup
}

// kvKeys is how many keys there are: few enough that writes of one key overlap.
const kvKeys = 64

// maxUnderWay bounds how many calls wait for an answer at once. Those offered
// beyond it fail at once, as they would in a program that protects itself.
const maxUnderWay = 1000

var errTooMany = errors.New("too many calls are under way")

// offer offers calls at the load's rate until ctx ends or stop is closed. Each
// runs on its own, until its deadline or the end of ctx; see drain.
func (l *kvLoad) offer(ctx context.Context, faulty bool, stop <-chan struct{}) {
	gap := time.Second / time.Duration(l.rate)
	start := time.Now()
	for i := 0; ; i++ {
		due := start.Add(gap * time.Duration(i))
		if !wait(ctx, time.Until(due), stop) {
			return
		}
		n := l.next
		l.next++
		if l.calls.count().UnderWay() >= maxUnderWay {
			l.calls.offered.Add(1)
			l.calls.add(call{faulty: faulty, outcome: etcdcall.NotApplied, err: errTooMany})
			continue
		}
		l.calls.offered.Add(1)
		l.running.Go(func() { l.call(ctx, n, faulty, due) })
	}
}

// drain waits until every call has ended.
func (l *kvLoad) drain() { l.running.Wait() }

// call makes the n-th call.
func (l *kvLoad) call(ctx context.Context, n int, faulty bool, due time.Time) {
	random := rand.New(rand.NewPCG(l.seed, uint64(n)))
	c := call{
		key:    fmt.Sprintf("%s%02d", l.prefix, random.IntN(kvKeys)),
		write:  random.IntN(2) == 0,
		faulty: faulty,
		due:    due.Sub(l.start),
		floor:  l.calls.newest.Load(),
	}
	if c.write {
		c.value = strconv.Itoa(n)
	}
	var sends atomic.Int32
	ctx, cancel := context.WithDeadline(context.WithValue(ctx, sendsKey{}, &sends), due.Add(l.timeout))
	defer cancel()
	c.rev, c.value, c.err = l.do(ctx, l.clients[n%len(l.clients)].KV, c)
	c.end = time.Since(l.start)
	c.sends = int(sends.Load())
	c.acked = c.err == nil
	if !c.acked {
		c.outcome = etcdcall.OutcomeOf(c.err)
	}
	l.calls.add(c)
}

func (l *kvLoad) do(ctx context.Context, kv clientv3.KV, c call) (rev int64, value string, err error) {
	if c.write {
		r, err := kv.Put(ctx, c.key, c.value)
		if err != nil {
			return 0, c.value, err
		}
		return r.Header.Revision, c.value, nil
	}
	r, err := kv.Get(ctx, c.key)
	if err != nil {
		return 0, "", err
	}
	if len(r.Kvs) > 0 {
		value = string(r.Kvs[0].Value)
	}
	return r.Header.Revision, value, nil
}
