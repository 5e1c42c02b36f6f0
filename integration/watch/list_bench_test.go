package watch_test

import (
	"context"
	"fmt"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// pagesOnly is a KV of a server that has no RangeStream.
type pagesOnly struct{ clientv3.KV }

func (pagesOnly) GetStream(context.Context, string, ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	return nil, status.Error(codes.Unimplemented, "unknown method RangeStream")
}

// BenchmarkList lists 200,000 small keys, in pages and from a stream. Besides
// the time it reports the allocations of each list and by how much the heap
// grows, both of client and server together, which share the process.
func BenchmarkList(b *testing.B) {
	const keys = 200_000
	c := etcdtest.New(b)
	cli := client(b, c)
	fill(b, truth(b, c), keys)
	for name, kv := range map[string]clientv3.KV{"pages": pagesOnly{cli.KV}, "stream": cli.KV} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var peak uint64
			for b.Loop() {
				b.StopTimer()
				runtime.GC()
				growth := watchHeap()
				b.StartTimer()
				if n := listOnce(b, kv, cli.Watcher); n != keys {
					b.Fatalf("listed %d keys, want %d", n, keys)
				}
				b.StopTimer()
				peak = max(peak, growth())
				b.StartTimer()
			}
			b.ReportMetric(float64(peak)/(1<<20), "peak-MB")
		})
	}
}

// fill puts n keys of 20 bytes with values of 64.
func fill(tb testing.TB, kv clientv3.KV, n int) {
	tb.Helper()
	value := string(make([]byte, 64))
	for i := 0; i < n; i += 100 {
		var ops []clientv3.Op
		for j := range 100 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%018d", prefix, i+j), value))
		}
		if _, err := kv.Txn(tb.Context()).Then(ops...).Commit(); err != nil {
			tb.Fatal(err)
		}
	}
}

// listOnce reads one list and returns how many keys it had.
func listOnce(tb testing.TB, kv clientv3.KV, w clientv3.Watcher) int {
	tb.Helper()
	l, err := etcdcall.NewListWatchOf(tb.Context(), kv, w, prefix, clientv3.WithPrefix())
	must(tb, err)
	defer l.Stop()
	n := 0
	for c, err := range l.All() {
		must(tb, err)
		if n += len(c.Events); !c.More {
			break
		}
	}
	return n
}

// watchHeap samples the size of the heap until the function that it returns is
// called, which returns by how much it grew at most.
func watchHeap() func() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	size := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	began, peak := size(), uint64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				peak = max(peak, size())
			case <-stop:
				return
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-done
		return max(peak, size(), began) - began
	}
}
