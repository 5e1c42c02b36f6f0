package calls_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// withoutQuorum cuts all members off from each other and waits until each knows
// that there is no leader.
func withoutQuorum(t *testing.T) *etcdtest.Cluster {
	t.Helper()
	c := etcdtest.New(t, etcdtest.WithMembers(3), calm)
	must(t, second(truth(t, c).Put(soon(t), "k", "v")))
	for _, m := range c.Members() {
		waitForKey(t, m)
	}
	for _, m := range c.Members() {
		must(t, c.Isolate(m))
	}
	cli := client(t, c.Config())
	for _, m := range c.Members() {
		for {
			s, err := cli.Status(soon(t), m.Endpoint())
			must(t, err)
			if s.Leader == 0 {
				break
			}
		}
	}
	return c
}

// waitForKey waits until a member has applied the write of k.
func waitForKey(t *testing.T, m *etcdtest.Member) {
	t.Helper()
	own, err := m.Truth()
	must(t, err)
	for {
		r, err := own.Get(soon(t), "k", clientv3.WithSerializable())
		must(t, err)
		if len(r.Kvs) == 1 {
			return
		}
	}
}

func TestWithoutAQuorum(t *testing.T) {
	t.Parallel()
	const patience = 3 * time.Second
	c := withoutQuorum(t)
	cli := client(t, c.Config())
	must(t, second(cli.Get(soon(t), "k", clientv3.WithSerializable()))) // connects

	t.Run("what any member can answer is answered", func(t *testing.T) {
		for _, m := range c.Members() {
			cfg := c.Config()
			cfg.Endpoints = []string{m.Endpoint()}
			one := client(t, cfg)
			r, err := one.Get(soon(t), "k", clientv3.WithSerializable())
			if err != nil || len(r.Kvs) != 1 {
				t.Errorf("serializable Get: %v, %v", r, err)
			}
			must(t, second(one.Status(soon(t), m.Endpoint())))
			must(t, second(one.HashKV(soon(t), m.Endpoint(), 0)))
			must(t, second(one.Defragment(soon(t), m.Endpoint())))
			must(t, second(one.MemberList(soon(t), clientv3.WithSerializable())))
			snapshot, err := one.Snapshot(soon(t))
			must(t, err)
			must(t, snapshot.Close())
		}
	})
	t.Run("a write is refused at once and known as not applied", func(t *testing.T) {
		stopped := refused(t, cli, patience)
		if first := stopped.Attempts[0].Err; stopped.Made < 2 || !errors.Is(first, rpctypes.ErrNoLeader) {
			t.Errorf("%d attempts, the first ended with %v", stopped.Made, first)
		}
	})
	t.Run("without requiring a leader its outcome is unknown", func(t *testing.T) {
		any := client(t, c.Config(), etcdcall.WithoutRequireLeader())
		must(t, second(any.Get(soon(t), "k", clientv3.WithSerializable()))) // connects
		err := second(any.Put(within(t, patience), "k", "w"))
		if etcdcall.OutcomeOf(err) != etcdcall.Unknown {
			t.Errorf("outcome %v of %v", etcdcall.OutcomeOf(err), err)
		}
	})
	t.Run("a call waits for the quorum until its deadline", func(t *testing.T) {
		done := make(chan error, 2)
		go func() { done <- second(cli.Put(soon(t), "k", "x")) }()
		go func() { done <- second(cli.Get(soon(t), "k")) }()
		must(t, c.HealPeers())
		must(t, <-done)
		must(t, <-done)
	})
}

// refused returns the error of a put that servers without a leader refuse until
// its deadline, and which is known as not applied. One whose last attempt the
// deadline cuts is made again: nothing is known of that.
func refused(t *testing.T, cli *clientv3.Client, patience time.Duration) *reprise.Error {
	t.Helper()
	for range 10 {
		err := second(cli.Put(within(t, patience), "k", "w"))
		stopped, ok := errors.AsType[*reprise.Error](err)
		if !ok || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if etcdcall.OutcomeOf(err) == etcdcall.NotApplied {
			return stopped
		}
		if status.Code(stopped.Err) != codes.DeadlineExceeded {
			t.Fatalf("outcome %v of %v", etcdcall.OutcomeOf(err), err)
		}
	}
	t.Fatal("no outcome was known")
	return nil
}
