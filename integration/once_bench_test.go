package integration_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// The shape of one round: so many writers make so many writes each.
const (
	benchWriters = 64
	benchWrites  = 60
)

// writing is one way to write a key. It checks what the response says.
type writing struct {
	name  string
	write func(ctx context.Context, key, value string) error
	rates []float64 // writes a second, one for each round
}

// BenchmarkExactlyOncePut compares an exactly-once Put with a plain Put and
// with a transaction of one put. Every iteration is a round in which each takes
// its turn, in changing order. It reports medians of the rounds' ratios with
// the ends of a 95 % interval; run it with -benchtime=25x or more.
func BenchmarkExactlyOncePut(b *testing.B) {
	for _, members := range []int{1, 3} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) { benchmarkOnce(b, members) })
	}
}

func benchmarkOnce(b *testing.B, members int) {
	// etcd's own times: a busy machine must not look like a dead leader.
	c := etcdtest.New(b, etcdtest.WithMembers(members), etcdtest.WithTick(100*time.Millisecond, time.Second))
	raw := c.Client(b)
	plain := newClient(b, c.Config())
	once := newClient(b, c.Config(), etcdcall.WithExactlyOnce("once/"))
	ways := []*writing{
		{name: "raw", write: putBy(raw)},
		{name: "plain", write: putBy(plain)},
		{name: "txn", write: txnBy(raw)},
		{name: "once", write: putBy(once)},
	}
	for _, w := range ways {
		w.round(b, benchWrites) // warms up connections and slots
		w.rates = nil
	}
	rounds := 0
	for b.Loop() {
		for i := range ways {
			ways[(rounds+i)%len(ways)].round(b, benchWrites)
		}
		rounds++
	}
	b.StopTimer()
	verifyWrites(b, raw, ways, (rounds+1)*benchWrites)
	for _, w := range ways {
		b.ReportMetric(median(w.rates), w.name+"/s")
	}
	for _, base := range ways[:3] {
		low, mid, high := medianInterval(ratios(ways[3].rates, base.rates))
		b.ReportMetric(mid, "once/"+base.name)
		b.Logf("once/%s: %.3f (%.3f to %.3f) in %d rounds", base.name, mid, low, high, rounds)
	}
	low, mid, high := medianInterval(ratios(ways[1].rates, ways[0].rates))
	b.ReportMetric(mid, "plain/raw")
	b.Logf("plain/raw: %.3f (%.3f to %.3f) in %d rounds", mid, low, high, rounds)
}

func putBy(cli *clientv3.Client) func(context.Context, string, string) error {
	return func(ctx context.Context, key, value string) error {
		r, err := cli.Put(ctx, key, value)
		if err == nil && r.Header.GetRevision() == 0 {
			return fmt.Errorf("a response without a revision: %v", r)
		}
		return err
	}
}

func txnBy(cli *clientv3.Client) func(context.Context, string, string) error {
	return func(ctx context.Context, key, value string) error {
		r, err := cli.Txn(ctx).Then(clientv3.OpPut(key, value)).Commit()
		if err == nil && (!r.Succeeded || len(r.Responses) != 1) {
			return fmt.Errorf("a transaction that did not succeed: %v", r)
		}
		return err
	}
}

var benchValue = string(make([]byte, 128))

func (w *writing) key(writer int) string { return fmt.Sprintf("bench/%s/%02d", w.name, writer) }

func (w *writing) round(b *testing.B, writes int) {
	b.Helper()
	errs := make([]error, benchWriters)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range benchWriters {
		wg.Go(func() {
			key := w.key(i)
			for n := 0; n < writes && errs[i] == nil; n++ {
				errs[i] = w.write(b.Context(), key, benchValue)
			}
		})
	}
	wg.Wait()
	w.rates = append(w.rates, float64(benchWriters*writes)/time.Since(start).Seconds())
	for _, err := range errs {
		if err != nil {
			b.Fatalf("%s: %v", w.name, err)
		}
	}
}

// verifyWrites checks that every writer's key was written exactly as often as
// its writes were acknowledged.
func verifyWrites(b *testing.B, cli *clientv3.Client, ways []*writing, writes int) {
	b.Helper()
	for _, w := range ways {
		for i := range benchWriters {
			r, err := cli.Get(b.Context(), w.key(i))
			if err != nil {
				b.Fatal(err)
			}
			if len(r.Kvs) != 1 || r.Kvs[0].Version != int64(writes) {
				b.Fatalf("%s: written %v, want version %s", w.key(i), r.Kvs, strconv.Itoa(writes))
			}
		}
	}
}

func ratios(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] / b[i]
	}
	return out
}

func median(v []float64) float64 {
	_, mid, _ := medianInterval(v)
	return mid
}

// medianInterval gives the median and the ends of its 95 % interval, which are
// order statistics of the sample (the binomial bound, with its normal
// approximation) and so assume no distribution.
func medianInterval(v []float64) (low, mid, high float64) {
	s := slices.Sorted(slices.Values(v))
	n := float64(len(s))
	half := 1.96 * math.Sqrt(n) / 2
	at := func(rank float64) float64 {
		return s[min(max(int(math.Round(rank)), 0), len(s)-1)]
	}
	return at(n/2 - half - 1), at((n - 1) / 2), at(n/2 + half)
}
