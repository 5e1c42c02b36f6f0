package concurrency_test

import (
	"context"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon bounds what should take milliseconds.
func soon(t testing.TB) context.Context {
	t.Helper()
	return within(t, time.Minute)
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newClient makes a client of etcdcall.
func newClient(t testing.TB, c *etcdtest.Cluster) *clientv3.Client {
	t.Helper()
	cli, err := etcdcall.New(c.Config())
	must(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	return cli
}

// session makes a session that ends with the test.
func session(t testing.TB, cli *clientv3.Client, opts ...concurrency.SessionOption) *concurrency.Session {
	t.Helper()
	s, err := concurrency.NewSession(cli, opts...)
	must(t, err)
	t.Cleanup(s.Orphan)
	return s
}

// until waits for a condition of the store.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	ctx := soon(t)
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("still waiting for: %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// truth reads and writes past every fault.
func truth(t testing.TB, c *etcdtest.Cluster) *clientv3.Client {
	t.Helper()
	cli, err := c.Member(0).Truth()
	must(t, err)
	return cli
}

// keys returns the keys under a prefix as a member has them.
func keys(t testing.TB, c *etcdtest.Cluster, prefix string) []string {
	t.Helper()
	resp, err := truth(t, c).Get(soon(t), prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	must(t, err)
	var out []string
	for _, kv := range resp.Kvs {
		out = append(out, string(kv.Key))
	}
	return out
}

func waitEnd(t testing.TB, ctx context.Context, what string) error {
	t.Helper()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-soon(t).Done():
		t.Fatalf("still waiting for the end of %s", what)
		return nil
	}
}
