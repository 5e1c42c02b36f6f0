package etcdtest_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/goleak"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestAClusterServesReadsAndWrites(t *testing.T) {
	t.Parallel()
	for name, members := range map[string]int{"one member": 1, "three members": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			c := etcdtest.New(t, etcdtest.WithMembers(members), calm)
			t.Logf("ready after %v", time.Since(start).Round(time.Millisecond))
			cli := c.Client(t)
			_, err := cli.Put(soon(t), "key", "value")
			must(t, err)
			r, err := cli.Get(soon(t), "key")
			must(t, err)
			if len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "value" {
				t.Errorf("got %v, want the value that was put", r.Kvs)
			}
			if got := len(c.Members()); got != members {
				t.Errorf("got %d members, want %d", got, members)
			}
		})
	}
}

func TestTruthReadsWithoutTheNetwork(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	_, err := c.Client(t).Put(soon(t), "key", "value")
	must(t, err)
	must(t, c.Member(0).ClientLink().Cut())

	truth, err := c.Member(0).Truth()
	must(t, err)
	r, err := truth.Get(soon(t), "key")
	must(t, err)
	if len(r.Kvs) != 1 {
		t.Errorf("got %d keys, want the one that was put", len(r.Kvs))
	}
}

// Not parallel: it looks for what is left in the process.
func TestClosingLeavesNothingBehind(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	parent := t.TempDir()
	c, err := etcdtest.Start(soon(t), etcdtest.WithMembers(3), etcdtest.WithDir(parent), calm)
	must(t, err)
	cli, err := clientv3.New(c.Config())
	must(t, err)
	_, err = cli.Put(soon(t), "key", "value")
	must(t, err)

	// A connection that never says anything is what hangs a naive close.
	addr := c.Member(0).ClientLink().Addr()
	idle, err := net.Dial("tcp", addr)
	must(t, err)
	defer func() { _ = idle.Close() }()

	must(t, c.Close())
	must(t, c.Close())
	if err := cli.Close(); err != nil {
		t.Errorf("closing the client after its cluster: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(parent, "*")); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
	for _, ep := range c.Endpoints() {
		l, err := net.Listen("tcp", strings.TrimPrefix(ep, "http://"))
		if err != nil {
			t.Errorf("a port is still taken: %v", err)
			continue
		}
		_ = l.Close()
	}
	goleak.VerifyNone(t, ignore)
}

func TestStartRefusesNonsense(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]etcdtest.Option{
		"no members":             etcdtest.WithMembers(0),
		"many members":           etcdtest.WithMembers(100),
		"no tick":                etcdtest.WithTick(0, time.Second),
		"election within a tick": etcdtest.WithTick(time.Second, time.Second),
		"nil option":             nil,
		"no directory":           etcdtest.WithDir(filepath.Join(os.DevNull, "x")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := etcdtest.Start(soon(t), opt)
			if err == nil {
				t.Error("no error")
				must(t, c.Close())
			}
		})
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(soon(t))
	why := errors.New("the reason")
	cancel(why)
	if _, err := etcdtest.Start(ctx, etcdtest.WithMembers(3)); !errors.Is(err, why) {
		t.Errorf("got %v, want the cause of the context", err)
	}
}

func TestTLSAdmitsOnlyItsOwnClients(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithClientCertificates())
	_, err := c.Client(t).Put(soon(t), "key", "value")
	must(t, err)

	for name, spoil := range map[string]func(cfg *clientv3.Config){
		"without TLS":           func(cfg *clientv3.Config) { cfg.TLS = nil },
		"without a certificate": func(cfg *clientv3.Config) { cfg.TLS.Certificates = nil },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := c.Config()
			spoil(&cfg)
			if cfg.TLS == nil {
				cfg.Endpoints = []string{c.Member(0).ClientLink().Addr()}
			}
			cli, err := clientv3.New(cfg)
			must(t, err)
			defer func() { _ = cli.Close() }()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if _, err := cli.Get(ctx, "key"); err == nil {
				t.Error("the stranger was served")
			}
		})
	}
	if err := c.Member(0).ClientLink().LoseResponse(); !errors.Is(err, etcdtest.ErrEncrypted) {
		t.Errorf("got %v, want ErrEncrypted", err)
	}
}

func TestAuthenticationAsksForTheRootPassword(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithAuth("secret"))
	_, err := c.Client(t).Put(soon(t), "key", "value")
	must(t, err)

	cfg := c.Config()
	cfg.Username, cfg.Password = "", ""
	cli, err := clientv3.New(cfg)
	must(t, err)
	defer func() { _ = cli.Close() }()
	if _, err := cli.Get(soon(t), "key"); !errors.Is(err, rpctypes.ErrUserEmpty) {
		t.Errorf("got %v, want %v", err, rpctypes.ErrUserEmpty)
	}
}

func TestACertificateNamesTheUser(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithClientCertificates(), etcdtest.WithAuth("secret"))
	root := c.Client(t)
	_, err := root.UserAddWithOptions(soon(t), "reader", "", &clientv3.UserAddOptions{NoPassword: true})
	must(t, err)

	cfg := c.Config()
	cfg.Username, cfg.Password = "", ""
	cfg.TLS, err = c.ClientTLS("reader")
	must(t, err)
	cli, err := clientv3.New(cfg)
	must(t, err)
	defer func() { _ = cli.Close() }()
	if _, err := cli.Get(soon(t), "key"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("got %v, want %v: a user without a role", err, rpctypes.ErrPermissionDenied)
	}
}

func TestCompactDiscardsTheHistory(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithMembers(3), calm)
	cli := c.Client(t)
	for range 3 {
		_, err := cli.Put(soon(t), "key", "value")
		must(t, err)
	}
	rev, err := c.Compact(soon(t), 0)
	must(t, err)
	if rev != 4 {
		t.Errorf("compacted at %d, want the current revision 4", rev)
	}
	if _, err := cli.Get(soon(t), "key", clientv3.WithRev(2)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("got %v, want %v", err, rpctypes.ErrCompacted)
	}
}
