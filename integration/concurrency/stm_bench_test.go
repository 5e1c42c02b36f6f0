package concurrency_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	raw "go.etcd.io/etcd/client/v3/concurrency"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
)

// BenchmarkContendedSTM measures increments of one counter by n clients, each
// with a connection of its own, through clientv3 and through this module in
// turns. One iteration is a turn of each.
func BenchmarkContendedSTM(b *testing.B) {
	for _, n := range []int{1, 2, 4, 8, 16, 32} {
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) {
			contend(b, n, func(*clientv3.Client) []concurrency.STMOption { return nil })
		})
	}
}

// BenchmarkRememberingSTM is the same with a Memory for each client.
func BenchmarkRememberingSTM(b *testing.B) {
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) {
			contend(b, n, func(cli *clientv3.Client) []concurrency.STMOption {
				return []concurrency.STMOption{concurrency.WithMemory(concurrency.NewMemory(cli, 0))}
			})
		})
	}
}

func contend(b *testing.B, n int, options func(cli *clientv3.Client) []concurrency.STMOption) {
	b.Helper()
	c := direct(b, 1)
	old, ours := newCounters(), newCounters()
	for range n {
		plain, cli := c.plain(b), c.client(b)
		opts := options(cli)
		old.increment = append(old.increment, func() error { return rawIncrement(plain, &old.attempts) })
		ours.increment = append(ours.increment, func() error { return newIncrement(cli, &ours.attempts, opts...) })
	}
	old.run(b, 5*n)
	ours.run(b, 5*n)
	old.attempts.Store(0)
	ours.attempts.Store(0)
	old.done, ours.done = 0, 0
	var before, after, ratios []float64
	for b.Loop() {
		x, y := old.run(b, 20*n), ours.run(b, 20*n)
		before, after, ratios = append(before, x), append(after, y), append(ratios, y/x)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(before), "clientv3-txns/s")
	b.ReportMetric(median(after), "txns/s")
	b.ReportMetric(median(ratios), "times-clientv3")
	b.ReportMetric(old.perTxn(), "clientv3-attempts/txn")
	b.ReportMetric(ours.perTxn(), "attempts/txn")
}

func rawIncrement(cli *clientv3.Client, attempts *atomic.Int64) error {
	_, err := raw.NewSTM(cli, func(s raw.STM) error {
		attempts.Add(1)
		n, _ := strconv.Atoi(s.Get("old"))
		s.Put("old", strconv.Itoa(n+1))
		return nil
	})
	return err
}

func newIncrement(cli *clientv3.Client, attempts *atomic.Int64, opts ...concurrency.STMOption) error {
	_, err := concurrency.NewSTM(cli, func(s concurrency.STM) error {
		attempts.Add(1)
		n, _ := strconv.Atoi(s.Get("new"))
		s.Put("new", strconv.Itoa(n+1))
		return nil
	}, opts...)
	return err
}

// counters are clients that increment one counter.
type counters struct {
	increment []func() error
	attempts  atomic.Int64
	done      int64
}

func newCounters() *counters { return new(counters) }

// run makes n increments and returns how many were made in a second.
func (c *counters) run(tb testing.TB, n int) float64 {
	tb.Helper()
	var (
		wg    sync.WaitGroup
		left  atomic.Int64
		start = time.Now()
	)
	left.Store(int64(n))
	for _, increment := range c.increment {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := increment(); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	c.done += int64(n)
	return float64(n) / time.Since(start).Seconds()
}

func (c *counters) perTxn() float64 { return float64(c.attempts.Load()) / float64(c.done) }
