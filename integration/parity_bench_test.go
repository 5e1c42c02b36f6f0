package integration_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/reprise-go/reprise/etcdcall"
)

const (
	// turn is how long one client works before the other takes its turn.
	turn = 25 * time.Millisecond
	// patience is the deadline of the calls. It is below the default attempt
	// timeout of reads, as most deadlines of single calls are, so that a read
	// needs no timer of its own.
	patience = 3 * time.Second
)

// BenchmarkCallsBesideClientv3 compares the throughput of plain calls through
// etcdcall with that of clientv3 alone. Both take turns on the same member, in
// random order, over direct connections; one iteration is a turn of each. Run it
// for hundreds, each of which is a round; short turns keep what else the machine
// does apart from the comparison:
//
//	go test -run xxx -bench CallsBesideClientv3 -benchtime 300x .
//
// It reports the median over the rounds of etcdcall's throughput divided by
// clientv3's, and the 95% interval of that median.
func BenchmarkCallsBesideClientv3(b *testing.B) {
	cfg := clientv3.Config{Endpoints: []string{startPlainMember(b)}, Logger: zap.NewNop()}
	raw, err := clientv3.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	ours, err := etcdcall.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = ours.Close() }()

	value := strings.Repeat("v", 128)
	for _, call := range []struct {
		name string
		make func(ctx context.Context, kv clientv3.KV, key string) error
	}{
		{"Put", func(ctx context.Context, kv clientv3.KV, key string) error {
			_, err := kv.Put(ctx, key, value)
			return err
		}},
		{"Get", func(ctx context.Context, kv clientv3.KV, key string) error {
			_, err := kv.Get(ctx, key)
			return err
		}},
	} {
		for _, goroutines := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", call.name, goroutines), func(b *testing.B) {
				measure := func(kv clientv3.KV) float64 { return throughput(b, goroutines, kv, call.make) }
				measure(raw)
				measure(ours)
				b.ResetTimer()
				ratios := make([]float64, 0, b.N)
				for range b.N {
					var with, without float64
					if rand.IntN(2) == 0 {
						with = measure(ours)
						without = measure(raw)
					} else {
						without = measure(raw)
						with = measure(ours)
					}
					ratios = append(ratios, with/without)
				}
				low, median, high := medianInterval(ratios)
				b.ReportMetric(median, "ratio")
				b.ReportMetric(low, "low")
				b.ReportMetric(high, "high")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// throughput is how many calls a second the goroutines made in one turn.
func throughput(b *testing.B, goroutines int, kv clientv3.KV, call func(context.Context, clientv3.KV, string) error) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	var calls atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for g := range goroutines {
		key := fmt.Sprint("key", g)
		wg.Go(func() {
			n := int64(0)
			for time.Since(start) < turn {
				if err := call(ctx, kv, key); err != nil {
					b.Error(err)
					return
				}
				n++
			}
			calls.Add(n)
		})
	}
	wg.Wait()
	return float64(calls.Load()) / time.Since(start).Seconds()
}

// startPlainMember starts a member that clients reach directly, without the
// links of etcdtest, which would cost both clients the same and so hide a part
// of the difference.
func startPlainMember(b *testing.B) string {
	b.Helper()
	cfg := embed.NewConfig()
	cfg.Dir, cfg.UnsafeNoFsync, cfg.EnableGRPCGateway = b.TempDir(), true, false
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	local := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.ListenPeerUrls = local, local
	cfg.AdvertiseClientUrls, cfg.AdvertisePeerUrls = local, local
	cfg.InitialCluster = cfg.Name + "=http://127.0.0.1:0"
	member, err := embed.StartEtcd(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(member.Close)
	<-member.Server.ReadyNotify()
	return member.Clients[0].Addr().String()
}
