package etcdcall_test

import (
	"context"
	"testing"
	"time"

	"github.com/reprise-go/reprise/etcdcall"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// BenchmarkClientAlone shows what a call costs above gRPC's transport, through
// clientv3 and through etcdcall: the connections answer at once, without a
// network. The deadlines are one below the default attempt timeout of reads and
// one above it.
func BenchmarkClientAlone(b *testing.B) {
	cfg := clientv3.Config{Endpoints: []string{"127.0.0.1:1"}, Logger: zap.NewNop()}
	answered := grpc.WithChainUnaryInterceptor(answer)
	configured := etcdcall.Configure(cfg)
	configured.DialOptions = append(configured.DialOptions, answered)
	cfg.DialOptions = append(cfg.DialOptions, answered)
	dial := func(cfg clientv3.Config) *clientv3.Client {
		cli, err := clientv3.New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = cli.Close() })
		return cli
	}
	parts, err := etcdcall.Wrap(dial(configured))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = parts.Close() })
	raw := dial(cfg)

	for _, call := range []struct {
		name string
		make func(context.Context, clientv3.KV) error
	}{
		{"Put", func(ctx context.Context, kv clientv3.KV) error { _, err := kv.Put(ctx, "key", "value"); return err }},
		{"Get", func(ctx context.Context, kv clientv3.KV) error { _, err := kv.Get(ctx, "key"); return err }},
	} {
		for _, deadline := range []time.Duration{3 * time.Second, time.Hour} {
			for _, client := range []struct {
				name string
				kv   clientv3.KV
			}{{"clientv3", raw}, {"etcdcall", parts.KV}} {
				b.Run(call.name+"/"+deadline.String()+"/"+client.name, func(b *testing.B) {
					ctx := dueIn{b.Context(), deadline}
					b.ReportAllocs()
					for b.Loop() {
						if err := call.make(ctx, client.kv); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

// dueIn is a context whose deadline is always as far away.
type dueIn struct {
	context.Context
	left time.Duration
}

// Deadline implements context.Context.
func (c dueIn) Deadline() (time.Time, bool) { return time.Now().Add(c.left), true }

// answer is an interceptor that answers in place of the network.
func answer(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
	return nil
}
