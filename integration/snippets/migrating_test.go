package snippets_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func dialWithClientv3(endpoints []string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:             endpoints,
		MaxUnaryRetries:       10,
		BackoffWaitBetween:    50 * time.Millisecond,
		BackoffJitterFraction: 0.1,
	})
}

func dialWithEtcdcall(endpoints []string) (*clientv3.Client, error) {
	return etcdcall.New(clientv3.Config{Endpoints: endpoints},
		etcdcall.WithBackoff(reprise.Backoff{Initial: 25 * time.Millisecond, Max: time.Second}))
}

func TestFromClientv3(t *testing.T) {
	t.Parallel()
	for name, dial := range map[string]func([]string) (*clientv3.Client, error){
		"clientv3": dialWithClientv3, "etcdcall": dialWithEtcdcall,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t)
			cli, err := dial(c.Endpoints())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cli.Close() })
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, err := cli.Put(ctx, "greeting", "hello"); err != nil {
				t.Fatal(err)
			}
			r, err := cli.Get(ctx, "greeting")
			if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "hello" {
				t.Errorf("got %v, %v", r, err)
			}
		})
	}
}
