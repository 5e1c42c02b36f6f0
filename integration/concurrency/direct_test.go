package concurrency_test

import (
	"fmt"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// directCluster is a cluster whose members also listen where no link stands
// between them and their clients, so that measurements are not those of a proxy.
type directCluster struct {
	*etcdtest.Cluster
	config clientv3.Config
}

func direct(tb testing.TB, members int) *directCluster {
	tb.Helper()
	var (
		dir       = tb.TempDir()
		n         atomic.Int64
		endpoints []string
	)
	for i := range members {
		endpoints = append(endpoints, "unix://"+filepath.Join(dir, fmt.Sprint("m", i)))
	}
	// The timing of etcd's own defaults: no election in the middle of a round.
	timing := etcdtest.WithTick(100*time.Millisecond, time.Second)
	c := etcdtest.New(tb, etcdtest.WithMembers(members), timing, etcdtest.WithServerConfig(func(cfg *embed.Config) {
		u, err := url.Parse(endpoints[n.Add(1)-1])
		must(tb, err)
		cfg.ListenClientUrls = append(cfg.ListenClientUrls, *u)
	}))
	config := c.Config()
	config.Endpoints = endpoints
	return &directCluster{c, config}
}

// plain makes a client of clientv3.
func (c *directCluster) plain(tb testing.TB) *clientv3.Client {
	tb.Helper()
	cli, err := clientv3.New(c.config)
	must(tb, err)
	tb.Cleanup(func() { _ = cli.Close() })
	return cli
}

// client makes a client of etcdcall.
func (c *directCluster) client(tb testing.TB) *clientv3.Client {
	tb.Helper()
	cli, err := etcdcall.New(c.config)
	must(tb, err)
	tb.Cleanup(func() { _ = cli.Close() })
	return cli
}
