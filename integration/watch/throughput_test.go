package watch_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// Each round of the benchmark is a load of transactions, written one after
// another, that one watcher receives.
const (
	roundTxns = 300
	txnPuts   = 100
)

// BenchmarkEventsToOneWatcher takes turns between clientv3 and this module, so
// that both meet the same machine, and reports events per second at the median
// round of each, and the ratio of the medians to clientv3's. Run it with
// -benchtime=20x or more.
func BenchmarkEventsToOneWatcher(b *testing.B) {
	c := etcdtest.New(b)
	ours, theirs := client(b, c), raw(b, c)
	writer := truth(b, c)
	receivers := []struct {
		name    string
		receive func(ctx context.Context, n int) (begun chan struct{}, done chan error)
	}{
		{"clientv3", channelReceiver(theirs)},
		{"drop-in", channelReceiver(ours)},
		{"Watch", watchReceiver(ours)},
	}
	times := make([][]time.Duration, len(receivers))
	for round := 0; b.Loop(); round++ {
		for i := range receivers {
			i = (i + round) % len(receivers)
			times[i] = append(times[i], measure(b, writer, receivers[i].receive))
		}
	}
	median := func(d []time.Duration) float64 { return float64(slices.Sorted(slices.Values(d))[len(d)/2]) }
	for i, r := range receivers {
		b.ReportMetric(roundTxns*txnPuts/(median(times[i])/float64(time.Second)), r.name+"-events/s")
		if i > 0 {
			b.ReportMetric(median(times[0])/median(times[i]), r.name+"/clientv3")
		}
	}
	b.ReportMetric(0, "ns/op")
}

// measure returns how long one round takes from the first write to the last
// event.
func measure(b *testing.B, writer clientv3.KV, receive func(ctx context.Context, n int) (chan struct{}, chan error)) time.Duration {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	begun, done := receive(ctx, roundTxns*txnPuts)
	<-begun
	ops := make([]clientv3.Op, txnPuts)
	for i := range ops {
		ops[i] = clientv3.OpPut(fmt.Sprint(prefix, i), string(make([]byte, 128)))
	}
	began := time.Now()
	for range roundTxns {
		if _, err := writer.Txn(ctx).Then(ops...).Commit(); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

func channelReceiver(w clientv3.Watcher) func(context.Context, int) (chan struct{}, chan error) {
	return func(ctx context.Context, n int) (chan struct{}, chan error) {
		begun, done := make(chan struct{}), make(chan error, 1)
		go func() {
			channel := w.Watch(ctx, prefix, clientv3.WithPrefix())
			close(begun)
			for r := range channel {
				if n -= len(r.Events); n <= 0 || r.Err() != nil {
					done <- r.Err()
					return
				}
			}
			done <- ctx.Err()
		}()
		return begun, done
	}
}

func watchReceiver(w clientv3.Watcher) func(context.Context, int) (chan struct{}, chan error) {
	return func(ctx context.Context, n int) (chan struct{}, chan error) {
		begun, done := make(chan struct{}), make(chan error, 1)
		go func() {
			watch, err := etcdcall.NewWatch(ctx, w, prefix, clientv3.WithPrefix())
			close(begun)
			for n > 0 && err == nil {
				var c *etcdcall.Changes
				if c, err = watch.Next(ctx); err == nil {
					n -= len(c.Events)
				}
			}
			done <- err
		}()
		return begun, done
	}
}
