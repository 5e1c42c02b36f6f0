// Package calls_test tests the unary calls of etcdcall against real members.
package calls_test

import (
	"context"
	"flag"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// campaign runs the tests that take long too.
var campaign = flag.Bool("campaign", false, "run the tests that take long, and those against older servers")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon bounds what should take milliseconds.
func soon(t testing.TB) context.Context { return within(t, time.Minute) }

// calm is the timing of etcd's own defaults, for clusters that are to have no
// election because the machine is busy.
var calm = etcdtest.WithTick(100*time.Millisecond, time.Second)

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

// client makes a client of the cluster that ends with the test.
func client(t testing.TB, cfg clientv3.Config, opts ...etcdcall.Option) *clientv3.Client {
	t.Helper()
	cli, err := etcdcall.New(cfg, opts...)
	must(t, err)
	t.Cleanup(func() { _ = cli.Close() }) // it says that its context was cancelled
	return cli
}

// truth is a client that no fault touches.
func truth(t testing.TB, c *etcdtest.Cluster) *clientv3.Client {
	t.Helper()
	cli, err := c.Member(0).Truth()
	must(t, err)
	return cli
}

func second[T any](_ T, err error) error { return err }
