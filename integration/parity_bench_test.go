package integration_test

import (
	"context"
	"fmt"
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
	// short is a deadline below the default attempt timeout of reads, as most
	// deadlines of single calls are. Under long, and without a deadline, each
	// attempt of a read is bounded besides.
	short, long = 3 * time.Second, time.Minute
)

// connections is how many clients of each kind there are. Of two clients of the same
// kind, one is slower than the other by up to some hundredths, for as long as its
// connection lives.
const connections = 8

// BenchmarkCallsBesideClientv3 compares the throughput of plain calls through
// etcdcall with that of clientv3 alone. Both take turns on the same member over
// direct connections; one iteration is two turns of each, so that each begins
// once. Run it for hundreds, each of which is a round; short turns keep what else
// the machine does apart from the comparison, and another pair of clients takes
// part in each round:
//
//	go test -run xxx -bench CallsBesideClientv3 -benchtime 304x .
//
// It reports the median over the rounds of etcdcall's throughput divided by
// clientv3's, and the 95% interval of that median. That of clientv3 beside itself
// shows what the machine makes of no difference at all.
func BenchmarkCallsBesideClientv3(b *testing.B) {
	cfg := clientv3.Config{Endpoints: []string{startPlainMember(b)}, Logger: zap.NewNop()}
	raw := func() (*clientv3.Client, error) { return clientv3.New(cfg) }
	ours := func() (*clientv3.Client, error) { return etcdcall.New(cfg) }
	besides, itself := make([]pair, connections), make([]pair, connections)
	for i := range connections {
		one := dial(b, raw)
		besides[i] = pair{one, dial(b, ours)}
		itself[i] = pair{one, dial(b, raw)}
	}

	value := strings.Repeat("v", 128)
	put := func(ctx context.Context, kv clientv3.KV, key string) error {
		_, err := kv.Put(ctx, key, value)
		return err
	}
	get := func(ctx context.Context, kv clientv3.KV, key string) error {
		_, err := kv.Get(ctx, key)
		return err
	}
	txn := func(ctx context.Context, kv clientv3.KV, key string) error {
		_, err := kv.Txn(ctx).If(clientv3.Compare(clientv3.Version(key), ">", -1)).Then(clientv3.OpPut(key, value)).Commit()
		return err
	}
	for _, c := range []struct {
		name string
		load workload
	}{
		{"Put/serial", workload{put, 1, short}},
		{"Put/64", workload{put, 64, short}},
		{"Get/serial", workload{get, 1, short}},
		{"Get/64", workload{get, 64, short}},
		{"Txn/serial", workload{txn, 1, short}},
		{"Txn/64", workload{txn, 64, short}},
		{"PutWithoutDeadline/serial", workload{put, 1, 0}},
		{"PutWithoutDeadline/64", workload{put, 64, 0}},
		{"GetWithoutDeadline/serial", workload{get, 1, 0}},
		{"GetWithoutDeadline/64", workload{get, 64, 0}},
		{"GetLongDeadline/serial", workload{get, 1, long}},
		{"GetLongDeadline/64", workload{get, 64, long}},
	} {
		b.Run(c.name, func(b *testing.B) { compare(b, c.load, besides) })
		b.Run("clientv3BesideItself/"+c.name, func(b *testing.B) { compare(b, c.load, itself) })
	}
}

// pair is clientv3 and what is compared with it.
type pair struct{ raw, with *clientv3.Client }

func dial(b *testing.B, client func() (*clientv3.Client, error)) *clientv3.Client {
	b.Helper()
	cli, err := client()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cli.Close() })
	return cli
}

func compare(b *testing.B, l workload, pairs []pair) {
	b.Helper()
	for _, p := range pairs {
		l.throughput(b, p.raw)
		l.throughput(b, p.with)
	}
	b.ResetTimer()
	ratios := make([]float64, 0, b.N)
	for i := range b.N {
		p := pairs[i%len(pairs)]
		with, without := l.throughput(b, p.with), l.throughput(b, p.raw)
		without += l.throughput(b, p.raw)
		with += l.throughput(b, p.with)
		ratios = append(ratios, with/without)
	}
	low, median, high := medianInterval(ratios)
	b.ReportMetric(median, "ratio")
	b.ReportMetric(low, "low")
	b.ReportMetric(high, "high")
	b.ReportMetric(0, "ns/op")
}

// workload is what one client does in its turn.
type workload struct {
	call       func(ctx context.Context, kv clientv3.KV, key string) error
	goroutines int
	deadline   time.Duration // of the calls; 0 for none
}

// throughput is how many calls a second the goroutines made in one turn.
func (l workload) throughput(b *testing.B, kv clientv3.KV) float64 {
	b.Helper()
	ctx := context.Background()
	if l.deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.deadline)
		defer cancel()
	}
	var calls atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for g := range l.goroutines {
		key := fmt.Sprint("key", g)
		wg.Go(func() {
			n := int64(0)
			for time.Since(start) < turn {
				if err := l.call(ctx, kv, key); err != nil {
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
