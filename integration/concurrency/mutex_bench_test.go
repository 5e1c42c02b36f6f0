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
)

// lock is a lock of either package with its fencing token.
type lock struct {
	Lock, Unlock func(ctx context.Context) error
	token        func() int64
}

func rawLock(b testing.TB, cli *clientv3.Client, name string) lock {
	b.Helper()
	s, err := raw.NewSession(cli)
	must(b, err)
	b.Cleanup(s.Orphan)
	m := raw.NewMutex(s, name)
	return lock{m.Lock, m.Unlock, func() int64 {
		cmp := m.IsOwner()
		return cmp.GetCompare().GetCreateRevision()
	}}
}

func newLock(b testing.TB, cli *clientv3.Client, name string) lock {
	b.Helper()
	m := concurrency.NewMutex(session(b, cli), name)
	return lock{m.Lock, m.Unlock, m.Token}
}

// BenchmarkContendedMutex measures acquisitions of one lock by 16 lockers, each
// with a client, a connection and a session of its own, through clientv3 and
// through this module in turns. One iteration is a turn of each. Holders are
// checked by fencing: one at a time, each with a greater token than the one
// before.
//
// A wait is as long as the turns of those in front, so that one stall of the
// machine or the server stands out against a median of milliseconds. A bystander
// who puts a key of its own every few milliseconds shows such stalls.
func BenchmarkContendedMutex(b *testing.B) {
	for _, members := range []int{1, 3} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			c := direct(b, members)
			old, ours := newContest(b, 16), newContest(b, 16)
			for i := range 16 {
				old.lockers[i] = rawLock(b, c.plain(b), "old")
				ours.lockers[i] = newLock(b, c.client(b), "ours")
			}
			old.run(b, 32)
			ours.run(b, 160)
			old.waits, ours.waits = nil, nil
			idle := newBystander(b, c.plain(b))
			var ratios, before, after []float64
			for b.Loop() {
				x := old.run(b, 64)
				idle.look()
				y := ours.run(b, 640)
				idle.lookAway()
				before, after, ratios = append(before, x), append(after, y), append(ratios, y/x)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(before), "clientv3-locks/s")
			b.ReportMetric(median(after), "locks/s")
			b.ReportMetric(median(ratios), "times-clientv3")
			b.ReportMetric(ours.worstWait(), "longest/median-wait")
			b.ReportMetric(ours.waits[len(ours.waits)-1].Seconds()*1e3, "longest-wait-ms")
			b.ReportMetric(idle.longest.Seconds()*1e3, "longest-put-ms")
		})
	}
}

// BenchmarkQueueOfMutex measures acquisitions of one lock on one member by so many
// lockers as the name says. "Sessions" have a client and a session each, through clientv3
// and through this module in turns; "handles" share one session, as handles of clientv3
// cannot, which would all hold the lock at once.
func BenchmarkQueueOfMutex(b *testing.B) {
	for _, n := range []int{2, 4, 8, 16, 32, 64, 128} {
		b.Run(fmt.Sprintf("sessions=%d", n), func(b *testing.B) {
			c := direct(b, 1)
			old, ours := newContest(b, n), newContest(b, n)
			for i := range n {
				old.lockers[i] = rawLock(b, c.plain(b), "old")
				ours.lockers[i] = newLock(b, c.client(b), "ours")
			}
			queues(b, ours, old)
		})
	}
	for _, n := range []int{2, 16, 128} {
		b.Run(fmt.Sprintf("handles=%d", n), func(b *testing.B) {
			c := direct(b, 1)
			ours, s := newContest(b, n), session(b, c.client(b))
			for i := range n {
				m := concurrency.NewMutex(s, "ours")
				ours.lockers[i] = lock{m.Lock, m.Unlock, m.Token}
			}
			queues(b, ours)
		})
	}
}

// queues runs contests in turns. The first is that of this module.
func queues(b *testing.B, contests ...*contest) {
	b.Helper()
	rates, rounds := make([][]float64, len(contests)), []int64{1280, 128}
	for i, c := range contests {
		c.run(b, rounds[i])
	}
	for b.Loop() {
		for i, c := range contests {
			rates[i] = append(rates[i], c.run(b, rounds[i]))
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, unit := range []string{"locks/s", "clientv3-locks/s"}[:len(contests)] {
		b.ReportMetric(median(rates[i]), unit)
	}
}

// BenchmarkUncontendedMutex measures Lock and Unlock of a free lock. The packages
// take turns of a few milliseconds, one going first as often as the other, so that
// what disturbs the machine disturbs both. One iteration is 64 turns of each, over
// eight pairs of clients with a connection, a session and a lock of their own: of two
// clients of one kind, too, one is slower than the other for as long as it lives. The
// last figure is that of clientv3 beside itself.
func BenchmarkUncontendedMutex(b *testing.B) {
	for _, members := range []int{1, 3} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			c := direct(b, members)
			var old, same, ours [8]*contest
			for i := range old {
				old[i], same[i], ours[i] = newContest(b, 1), newContest(b, 1), newContest(b, 1)
				old[i].lockers[0] = rawLock(b, c.plain(b), fmt.Sprint("old", i))
				same[i].lockers[0] = rawLock(b, c.plain(b), fmt.Sprint("same", i))
				ours[i].lockers[0] = newLock(b, c.client(b), fmt.Sprint("ours", i))
				for _, warmed := range []*contest{old[i], same[i], ours[i]} {
					warmed.run(b, 20)
				}
			}
			var ratios, controls, before, after []float64
			for b.Loop() {
				var x, y, z float64 // µs for one
				for turn := range 64 {
					i := turn / 2 % len(old)
					sides := []struct {
						*contest
						took *float64
					}{{old[i], &x}, {ours[i], &y}, {same[i], &z}}
					if turn%2 == 1 {
						slices.Reverse(sides)
					}
					for _, s := range sides {
						*s.took += 1e6 / s.run(b, 8) / 64
					}
				}
				before, after = append(before, x), append(after, y)
				ratios, controls = append(ratios, x/y), append(controls, x/z)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(before), "clientv3-µs")
			b.ReportMetric(median(after), "µs")
			b.ReportMetric(median(ratios), "times-clientv3")
			b.ReportMetric(median(controls), "clientv3-times-itself")
		})
	}
}

// contest is lockers who contend for one lock.
type contest struct {
	lockers []lock
	holders atomic.Int32
	last    int64 // guarded by the lock
	waits   []time.Duration
}

func newContest(tb testing.TB, n int) *contest {
	tb.Helper()
	return &contest{lockers: make([]lock, n)}
}

// run makes n acquisitions and returns how many were made in a second.
func (c *contest) run(tb testing.TB, n int64) float64 {
	tb.Helper()
	var (
		wg    sync.WaitGroup
		left  atomic.Int64
		waits = make([][]time.Duration, len(c.lockers))
		start = time.Now()
	)
	left.Store(n)
	for i, m := range c.lockers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				asked := time.Now()
				if err := m.Lock(tb.Context()); err != nil {
					tb.Error(err)
					return
				}
				waits[i] = append(waits[i], time.Since(asked))
				c.hold(tb, m.token())
				if err := m.Unlock(tb.Context()); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	c.waits = append(c.waits, slices.Concat(waits...)...)
	return float64(n) / time.Since(start).Seconds()
}

// hold is what a holder does.
func (c *contest) hold(tb testing.TB, token int64) {
	if n := c.holders.Add(1); n != 1 {
		tb.Errorf("%d holders", n)
	}
	if token <= c.last {
		tb.Errorf("token %d after %d", token, c.last)
	}
	c.last = token
	c.holders.Add(-1)
}

// worstWait is how many times the median the longest wait was.
func (c *contest) worstWait() float64 {
	slices.Sort(c.waits)
	return float64(c.waits[len(c.waits)-1]) / float64(c.waits[len(c.waits)/2])
}

// bystander puts a key of its own from time to time, and notes how long that
// took at most while it was looking.
type bystander struct {
	mu      sync.Mutex
	looking bool
	longest time.Duration
}

func newBystander(tb testing.TB, cli *clientv3.Client) *bystander {
	tb.Helper()
	o := &bystander{}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	tb.Cleanup(func() { stop(); wg.Wait() })
	wg.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			<-time.After(5 * time.Millisecond) // late, if the machine stalls
			if _, err := cli.Put(ctx, "bystander", ""); err != nil {
				continue
			}
			o.mu.Lock()
			if o.looking {
				o.longest = max(o.longest, time.Since(began)-5*time.Millisecond)
			}
			o.mu.Unlock()
		}
	})
	return o
}

func (o *bystander) look()     { o.set(true) }
func (o *bystander) lookAway() { o.set(false) }

func (o *bystander) set(looking bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looking = looking
}

func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	return of[len(of)/2]
}
