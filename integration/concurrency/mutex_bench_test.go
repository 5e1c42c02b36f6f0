package concurrency_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	raw "go.etcd.io/etcd/client/v3/concurrency"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// contender is a package whose locks are measured.
type contender struct {
	name   string
	client func(tb testing.TB, c *etcdtest.Cluster) *clientv3.Client
	mutex  func(b testing.TB, cli *clientv3.Client, name string) locker
}

// locker is a lock of either package with its fencing token.
type locker struct {
	Lock, Unlock func(ctx context.Context) error
	token        func() int64
}

var packages = []contender{
	{"clientv3", plainClient, func(b testing.TB, cli *clientv3.Client, name string) locker {
		s, err := raw.NewSession(cli)
		must(b, err)
		b.Cleanup(s.Orphan)
		m := raw.NewMutex(s, name)
		return locker{m.Lock, m.Unlock, func() int64 {
			cmp := m.IsOwner()
			return (&cmp).GetCompare().GetCreateRevision()
		}}
	}},
	{"reprise", newClient, func(b testing.TB, cli *clientv3.Client, name string) locker {
		m := concurrency.NewMutex(session(b, cli), name)
		return locker{m.Lock, m.Unlock, m.Token}
	}},
}

// tokens checks that holders come one at a time, each with a greater token.
type tokens struct {
	holders atomic.Int32
	last    int64
}

func (h *tokens) enter(tb testing.TB, token int64) {
	if n := h.holders.Add(1); n != 1 {
		tb.Errorf("%d holders", n)
	}
	if token <= h.last {
		tb.Errorf("token %d after %d", token, h.last)
	}
	h.last = token
}

func (h *tokens) leave() { h.holders.Add(-1) }

// BenchmarkContendedMutex measures acquisitions of one lock by 16 lockers, each
// with a client, a connection and a session of its own. One iteration is one
// acquisition. Holders are checked by fencing: one at a time, each with a greater
// token than the one before.
func BenchmarkContendedMutex(b *testing.B) {
	for _, members := range []int{1, 3} {
		for _, pkg := range packages {
			b.Run(fmt.Sprintf("members=%d/%s", members, pkg.name), func(b *testing.B) {
				c := etcdtest.New(b, etcdtest.WithMembers(members))
				contend(b, c, pkg, 16)
			})
		}
	}
}

// BenchmarkUncontendedMutex measures Lock and Unlock of a free lock.
func BenchmarkUncontendedMutex(b *testing.B) {
	for _, members := range []int{1, 3} {
		for _, pkg := range packages {
			b.Run(fmt.Sprintf("members=%d/%s", members, pkg.name), func(b *testing.B) {
				c := etcdtest.New(b, etcdtest.WithMembers(members))
				m := pkg.mutex(b, pkg.client(b, c), "lock")
				for b.Loop() {
					must(b, m.Lock(b.Context()))
					must(b, m.Unlock(b.Context()))
				}
			})
		}
	}
}

func contend(b *testing.B, c *etcdtest.Cluster, pkg contender, n int) {
	var (
		lockers = make([]locker, n)
		work    = make(chan struct{}, b.N)
		held    tokens
		waits   = make([][]time.Duration, n)
		wg      sync.WaitGroup
	)
	for i := range lockers {
		lockers[i] = pkg.mutex(b, pkg.client(b, c), "lock")
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	b.ResetTimer()
	for i, m := range lockers {
		wg.Go(func() {
			for range work {
				asked := time.Now()
				if err := m.Lock(b.Context()); err != nil {
					b.Error(err)
					return
				}
				waits[i] = append(waits[i], time.Since(asked))
				held.enter(b, m.token())
				held.leave()
				if err := m.Unlock(b.Context()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Sorted(slices.Values(slices.Concat(waits...)))
	if len(all) > 0 {
		median, worst := all[len(all)/2], all[len(all)-1]
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "locks/s")
		b.ReportMetric(float64(worst)/float64(median), "max/median")
	}
}
