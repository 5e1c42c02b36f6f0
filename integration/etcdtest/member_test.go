package etcdtest_test

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

// TestTheLinkLeadsToAMemberWithOtherListeners starts a member several times, since etcd
// returns its listeners in any order.
func TestTheLinkLeadsToAMemberWithOtherListeners(t *testing.T) {
	t.Parallel()
	socket := url.URL{Scheme: "unix", Path: filepath.Join(t.TempDir(), "s")}
	c := etcdtest.New(t, etcdtest.WithServerConfig(func(cfg *embed.Config) {
		cfg.ListenClientUrls = append(cfg.ListenClientUrls, socket)
	}))
	cli, m := c.Client(t), c.Member(0)
	for range 8 {
		put(t, cli, "key", "value")
		must(t, m.Stop())
		must(t, m.Restart(soon(t)))
	}
}

func TestAMemberKeepsItsDataOverARestart(t *testing.T) {
	t.Parallel()
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t)
			cli, m := c.Client(t), c.Member(0)
			for i := range 3 {
				put(t, cli, fmt.Sprint("key", i), "value")
				must(t, end(m))
				must(t, end(m))
				if m.Running() {
					t.Fatal("the member is still running")
				}
				must(t, m.Restart(soon(t)))
			}
			for i := range 3 {
				r, err := cli.Get(soon(t), fmt.Sprint("key", i))
				must(t, err)
				if len(r.Kvs) != 1 {
					t.Errorf("write %d is missing", i)
				}
			}
		})
	}
}

// put writes until it succeeds: after a restart a client may find out on its next
// call that its connection has died.
func put(t *testing.T, cli *clientv3.Client, key, value string) {
	t.Helper()
	ctx := soon(t)
	for {
		_, err := cli.Put(ctx, key, value)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestADeadMemberRefusesConnections(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	m := c.Member(0)
	must(t, m.Kill())
	for name, l := range map[string]*etcdtest.Link{"client": m.ClientLink(), "peer": m.PeerLink()} {
		if _, err := net.Dial("tcp", l.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s link: got %v, want a refused connection", name, err)
		}
	}
	if _, err := m.Truth(); !errors.Is(err, etcdtest.ErrDown) {
		t.Errorf("got %v, want ErrDown", err)
	}
	must(t, m.Restart(soon(t)))
	if err := m.Restart(soon(t)); !errors.Is(err, etcdtest.ErrRunning) {
		t.Errorf("got %v, want ErrRunning", err)
	}
}

func TestAnotherMemberLeadsAfterTheLeaderIsGone(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(*etcdtest.Cluster, *etcdtest.Member) error{
		"killed":   func(_ *etcdtest.Cluster, m *etcdtest.Member) error { return m.Kill() },
		"stopped":  func(_ *etcdtest.Cluster, m *etcdtest.Member) error { return m.Stop() },
		"isolated": (*etcdtest.Cluster).Isolate,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t, etcdtest.WithMembers(3))
			old, err := c.WaitLeader(soon(t))
			must(t, err)
			must(t, take(c, old))
			for leader := old; leader == old; {
				leader, err = c.WaitLeader(soon(t))
				must(t, err)
			}
			must(t, c.HealPeers())
			if !old.Running() {
				must(t, old.Restart(soon(t)))
			}
			put(t, c.Client(t), "key", "value")
			reached := leader(t, c).Server().AppliedIndex()
			waitFor(t, "the old leader to follow", func() bool { return old.Server().AppliedIndex() >= reached })
		})
	}
}

func TestMoveLeaderMovesIt(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithMembers(3), calm)
	for _, m := range c.Members() {
		must(t, c.MoveLeader(soon(t), m))
		if got := leader(t, c); got != m {
			t.Errorf("%s leads, want %s", got.Name(), m.Name())
		}
	}
}

func TestAnIsolatedMemberHasNoLeader(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithMembers(3), calm)
	m := leader(t, c)
	must(t, c.Isolate(m))
	waitFor(t, "the isolated leader to give up", func() bool { return m.Server().Leader() == 0 })
	must(t, c.HealPeers())
	waitFor(t, "the member to follow again", func() bool { return m.Server().Leader() != 0 })
}

// Members probe each other every few seconds, on connections that they use for
// more.
func TestAnIsolationLasts(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithMembers(3), calm)
	for _, m := range c.Members() {
		must(t, c.Isolate(m))
	}
	for _, m := range c.Members() {
		waitFor(t, "the member to have no leader", func() bool { return m.Server().Leader() == 0 })
	}
	term := c.Member(0).Server().Term()
	over := time.After(rafthttp.ConnReadTimeout + time.Second)
	for done := false; !done; {
		for _, m := range c.Members() {
			if s := m.Server(); s.Leader() != 0 || s.Term() != term {
				t.Fatalf("%s has heard of others: leader %x, term %d after %d", m.Name(), uint64(s.Leader()), s.Term(), term)
			}
		}
		select {
		case <-over:
			done = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	must(t, c.HealPeers())
	leader(t, c)
}

func TestALostQuorumComesBack(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithMembers(3))
	must(t, c.Member(0).Kill())
	must(t, c.Member(1).Kill())
	waitFor(t, "the quorum to be lost", func() bool { return c.Leader() == nil })
	errs := make(chan error, 2)
	for _, m := range c.Members()[:2] {
		go func() { errs <- m.Restart(soon(t)) }()
	}
	must(t, errors.Join(<-errs, <-errs))
	_, err := c.WaitLeader(soon(t))
	must(t, err)
}
