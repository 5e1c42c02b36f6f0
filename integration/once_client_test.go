package integration_test

import (
	"context"
	"errors"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
)

// newClient makes a client of etcdcall that is closed with the test.
func newClient(t testing.TB, cfg clientv3.Config, opts ...etcdcall.Option) *clientv3.Client {
	t.Helper()
	cli, err := etcdcall.New(cfg, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cli.Close(); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return cli
}
