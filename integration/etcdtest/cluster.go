package etcdtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
)

// A Cluster is a running etcd cluster. All methods may be called concurrently.
type Cluster struct {
	opts      *options
	dir       string
	initial   string // who the members are, as etcd wants it
	members   []*Member
	authority *authority // nil without TLS
	faults    faults
	close     func() error
}

// New starts a cluster for a test and waits until it has a leader. The cluster
// is closed when the test and its subtests are over. If it cannot be started,
// the test fails at once.
func New(tb testing.TB, opts ...Option) *Cluster {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), startTimeout)
	defer cancel()
	c, err := Start(ctx, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

const startTimeout = time.Minute

// Start starts a cluster for a program and waits until it has a leader or ctx
// ends. The caller closes the cluster. What it stores lies in a temporary
// directory, in memory where possible; see [WithDir].
func Start(ctx context.Context, opts ...Option) (*Cluster, error) {
	o, err := resolve(opts)
	if err != nil {
		return nil, err
	}
	smallWAL()
	dir, err := makeDir(o.dir)
	if err != nil {
		return nil, err
	}
	c := &Cluster{opts: o, dir: dir}
	c.close = sync.OnceValue(c.shutDown)
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close ends all members and removes everything the cluster made. Closing
// again does nothing and returns the same.
func (c *Cluster) Close() error { return c.close() }

// Members returns the members, in the order of their names.
func (c *Cluster) Members() []*Member { return slices.Clone(c.members) }

// Member returns the i-th member, counting from zero. It is nil if there is no
// such member.
func (c *Cluster) Member(i int) *Member {
	if i < 0 || i >= len(c.members) {
		return nil
	}
	return c.members[i]
}

// Endpoints returns the URLs of all members.
func (c *Cluster) Endpoints() []string {
	ee := make([]string, len(c.members))
	for i, m := range c.members {
		ee[i] = m.Endpoint()
	}
	return ee
}

// Config returns what a client of the whole cluster needs: the endpoints, TLS
// and the name and password of root where the cluster has them, and a logger
// that is silent.
func (c *Cluster) Config() clientv3.Config {
	cfg := clientv3.Config{Endpoints: c.Endpoints(), TLS: c.TLS(), Logger: zap.NewNop()}
	if c.opts.password != "" {
		cfg.Username, cfg.Password = "root", c.opts.password
	}
	return cfg
}

// TLS returns a client's TLS configuration, with a certificate for root if
// the members ask for one. It is nil without [WithTLS].
func (c *Cluster) TLS() *tls.Config {
	if c.authority == nil {
		return nil
	}
	return c.authority.root.Clone()
}

// ClientTLS returns the TLS configuration of a client whose certificate has
// the given common name. It returns an error without [WithTLS].
func (c *Cluster) ClientTLS(commonName string) (*tls.Config, error) {
	if c.authority == nil {
		return nil, errors.New("etcdtest: the cluster has no TLS")
	}
	return c.authority.client(commonName)
}

// Client returns a client of the whole cluster, made from [Cluster.Config] and
// closed when the test is over.
func (c *Cluster) Client(tb testing.TB) *clientv3.Client {
	tb.Helper()
	cli, err := clientv3.New(c.Config())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := cli.Close(); err != nil && !errors.Is(err, context.Canceled) {
			tb.Error(err)
		}
	})
	return cli
}

// Compact discards the history before revision rev on all members, and waits
// until it is gone on the leader. If rev is zero, it is the current revision.
// It returns the revision.
func (c *Cluster) Compact(ctx context.Context, rev int64) (int64, error) {
	m, err := c.WaitLeader(ctx)
	if err != nil {
		return 0, err
	}
	truth, err := m.Truth()
	if err != nil {
		return 0, err
	}
	if rev == 0 {
		r, err := truth.Get(ctx, "\x00")
		if err != nil {
			return 0, fmt.Errorf("etcdtest: compact: %w", err)
		}
		rev = r.Header.Revision
	}
	if _, err := truth.Compact(ctx, rev, clientv3.WithCompactPhysical()); err != nil {
		return 0, fmt.Errorf("etcdtest: compact: %w", err)
	}
	return rev, nil
}

// smallWAL keeps etcd from preallocating two segments of 64 MB for each
// member. The size is a variable of etcd's package for the whole process.
var smallWAL = sync.OnceFunc(func() { wal.SegmentSizeBytes = 1 << 20 })

func makeDir(parent string) (string, error) {
	const pattern = "etcdtest-"
	if parent == "" {
		if dir, err := os.MkdirTemp("/dev/shm", pattern); err == nil {
			return dir, nil
		}
	}
	dir, err := os.MkdirTemp(parent, pattern)
	if err != nil {
		return "", fmt.Errorf("etcdtest: %w", err)
	}
	return dir, nil
}

func (c *Cluster) start(ctx context.Context) (err error) {
	if c.opts.tls {
		if c.authority, err = newAuthority(c.dir, c.opts.clientCerts); err != nil {
			return fmt.Errorf("etcdtest: make certificates: %w", err)
		}
	}
	var initial []string
	for i := range c.opts.members {
		m := &Member{cluster: c, name: fmt.Sprintf("m%d", i)}
		if m.client, err = newLink(false, c.opts.tls); err != nil {
			return err
		}
		if m.peer, err = newLink(true, false); err != nil {
			return errors.Join(err, m.client.close())
		}
		c.members = append(c.members, m)
		initial = append(initial, m.name+"=http://"+m.peer.Addr())
	}
	c.initial = strings.Join(initial, ",")
	if err := c.each((*Member).start); err != nil {
		return err
	}
	if err := c.each(func(m *Member) error { return m.ready(ctx) }); err != nil {
		return err
	}
	if _, err := c.WaitLeader(ctx); err != nil {
		return err
	}
	return c.enableAuth(ctx)
}

func (c *Cluster) enableAuth(ctx context.Context) error {
	if c.opts.password == "" {
		return nil
	}
	cfg := c.Config()
	cfg.Username, cfg.Password = "", ""
	cli, err := clientv3.New(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = cli.Close() }() // nothing of it is needed any more
	if _, err := cli.RoleAdd(ctx, "root"); err != nil {
		return fmt.Errorf("etcdtest: enable authentication: %w", err)
	}
	if _, err := cli.UserAdd(ctx, "root", c.opts.password); err != nil {
		return fmt.Errorf("etcdtest: enable authentication: %w", err)
	}
	if _, err := cli.UserGrantRole(ctx, "root", "root"); err != nil {
		return fmt.Errorf("etcdtest: enable authentication: %w", err)
	}
	if _, err := cli.AuthEnable(ctx); err != nil {
		return fmt.Errorf("etcdtest: enable authentication: %w", err)
	}
	return nil
}

func (c *Cluster) shutDown() error {
	err := c.each(func(m *Member) error {
		// Members in the middle of starting hold what Kill waits for.
		return errors.Join(m.Kill(), m.client.close(), m.peer.close())
	})
	if !strings.HasPrefix(filepath.Base(c.dir), "etcdtest-") {
		return err
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}

// each calls f for all members at once.
func (c *Cluster) each(f func(*Member) error) error {
	errs := make([]error, len(c.members))
	var wg sync.WaitGroup
	for i, m := range c.members {
		wg.Go(func() { errs[i] = f(m) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
