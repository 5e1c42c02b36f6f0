package concurrency_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	raw "go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestAWaiterSurvivesCompactionAndReconnection(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		wait  func(t *testing.T, cli *clientv3.Client) <-chan error
		fails bool
	}{
		"clientv3 mutex": {func(t *testing.T, cli *clientv3.Client) <-chan error {
			s, err := raw.NewSession(cli)
			must(t, err)
			t.Cleanup(s.Orphan)
			return lockInBackground(t, raw.NewMutex(s, "lock").Lock)
		}, true},
		"clientv3 election": {func(t *testing.T, cli *clientv3.Client) <-chan error {
			s, err := raw.NewSession(cli)
			must(t, err)
			t.Cleanup(s.Orphan)
			e := raw.NewElection(s, "lock")
			return lockInBackground(t, func(ctx context.Context) error { return e.Campaign(ctx, "me") })
		}, true},
		"mutex": {func(t *testing.T, cli *clientv3.Client) <-chan error {
			return lockInBackground(t, concurrency.NewMutex(session(t, cli), "lock").Lock)
		}, false},
		"election": {func(t *testing.T, cli *clientv3.Client) <-chan error {
			e := concurrency.NewElection(session(t, cli), "lock")
			return lockInBackground(t, func(ctx context.Context) error { return e.Campaign(ctx, "me") })
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var watches created
			c := etcdtest.New(t, watches.option())
			cli := c.Client(t)
			_, err := truth(t, c).Put(soon(t), "lock/0", "")
			must(t, err)
			done := test.wait(t, cli)
			until(t, "the waiter's watch", func() bool { return watches.Load() > 0 })
			for range 3 {
				_, err = truth(t, c).Put(soon(t), "other", "")
				must(t, err)
			}
			_, err = c.Compact(soon(t), 0)
			must(t, err)
			c.Member(0).ClientLink().Reset()
			if test.fails {
				if err := <-done; err == nil || !strings.Contains(err.Error(), "compacted") {
					t.Fatalf("clientv3 has mended it: %v", err)
				}
				// The election leaves its candidate behind: nobody can lead
				// until its session ends.
				if left := len(keys(t, c, "lock/")) - 1; (left == 1) != strings.Contains(name, "election") {
					t.Errorf("%d keys were left behind", left)
				}
				return
			}
			_, err = cli.Get(soon(t), "reconnected")
			must(t, err)
			_, err = truth(t, c).Delete(soon(t), "lock/0")
			must(t, err)
			must(t, <-done)
		})
	}
}

// created counts the watches that members have created.
type created struct{ atomic.Int64 }

func (c *created) option() etcdtest.Option {
	return etcdtest.WithServerOptions(grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, &countedStream{ss, c})
		}))
}

type countedStream struct {
	grpc.ServerStream
	watches *created
}

func (s *countedStream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if r, ok := m.(*pb.WatchResponse); ok && r.Created && err == nil {
		s.watches.Add(1)
	}
	return err
}

func lockInBackground(t *testing.T, lock func(context.Context) error) <-chan error {
	ctx := soon(t)
	done := make(chan error, 1)
	go func() { done <- lock(ctx) }()
	return done
}

func TestWhatIsFreeIsTakenAndGivenBackInOneRequestEach(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := newClient(t, c)
	s, n := session(t, cli), counted(cli)
	m, rw, e := concurrency.NewMutex(s, "mutex"), concurrency.NewRWMutex(s, "rw"), concurrency.NewElection(s, "election")
	for _, h := range []struct {
		name       string
		take, give func(context.Context) error
		token      func() int64
	}{
		{"Lock", m.Lock, m.Unlock, m.Token},
		{"TryLock", m.TryLock, m.Unlock, m.Token},
		{"Lock for writing", rw.Lock, rw.Unlock, rw.Token},
		{"TryLock for writing", rw.TryLock, rw.Unlock, rw.Token},
		{"Campaign", func(ctx context.Context) error { return e.Campaign(ctx, "x") }, e.Resign, e.Rev},
	} {
		last := int64(0)
		for range 3 {
			before := n.txns.Load()
			must(t, h.take(soon(t)))
			taken, token := n.txns.Load(), h.token()
			must(t, h.give(soon(t)))
			if took, gave := taken-before, n.txns.Load()-taken; took != 1 || gave != 1 {
				t.Errorf("%s: %d and %d requests", h.name, took, gave)
			}
			if token <= last {
				t.Errorf("%s: token %d after %d", h.name, token, last)
			}
			last = token
		}
	}
	must(t, rw.RLock(soon(t)))
	before := n.txns.Load()
	must(t, rw.RLock(soon(t)))
	must(t, rw.TryRLock(soon(t)))
	if made := n.txns.Load() - before; made != 2 {
		t.Errorf("two more readers: %d requests", made)
	}
}

func TestTryLockOfAHeldLockIsOneRequestAndNoWrite(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := newClient(t, c)
	holder := concurrency.NewMutex(session(t, newClient(t, c)), "lock")
	must(t, holder.Lock(soon(t)))
	m := concurrency.NewMutex(session(t, cli), "lock")
	n := counted(cli)
	before := revision(t, c)
	if err := m.TryLock(soon(t)); err != concurrency.ErrLocked { //nolint:errorlint // the very error is promised
		t.Fatal(err)
	}
	if n.txns.Load() != 1 || revision(t, c) != before {
		t.Errorf("%d requests, %d revisions", n.txns.Load(), revision(t, c)-before)
	}
	must(t, holder.Unlock(soon(t)))
	must(t, m.TryLock(soon(t)))

	t.Run("in clientv3 it writes", func(t *testing.T) {
		s, err := raw.NewSession(c.Client(t))
		must(t, err)
		defer s.Close()
		before := revision(t, c)
		if err := raw.NewMutex(s, "lock").TryLock(soon(t)); err != raw.ErrLocked { //nolint:errorlint // the very error is promised
			t.Fatal(err)
		}
		if made := revision(t, c) - before; made != 2 {
			t.Errorf("%d revisions", made)
		}
	})
}

func revision(t *testing.T, c *etcdtest.Cluster) int64 {
	t.Helper()
	resp, err := truth(t, c).Get(soon(t), "x")
	must(t, err)
	return resp.Header.Revision
}

func TestALockIsHandedOverWithOneRequestAtMost(t *testing.T) {
	t.Parallel()
	var watches created
	c := etcdtest.New(t, watches.option())
	holder := concurrency.NewMutex(session(t, newClient(t, c)), "lock")
	must(t, holder.Lock(soon(t)))
	cli := newClient(t, c)
	s := session(t, cli)
	n := counted(cli)
	m := concurrency.NewMutex(s, "lock")
	done := lockInBackground(t, m.Lock)
	until(t, "the waiter's watch", func() bool { return watches.Load() > 0 })
	entered := n.txns.Load()
	must(t, holder.Unlock(soon(t)))
	must(t, <-done)
	handedOver := 0
	count := func(made int64) {
		t.Helper()
		switch made {
		case 0, 1: // none, if the waiter knew that it was the next
			handedOver++
		case 2: // etcd can tell of an event before it answers reads with it
		default:
			t.Errorf("%d requests after the release", made)
		}
	}
	count(n.txns.Load() - entered)

	// And again, with the same keys and the same watch: what happened to them
	// before does not count.
	for range 5 {
		must(t, m.Unlock(soon(t)))
		must(t, holder.Lock(soon(t)))
		before := n.txns.Load()
		done = lockInBackground(t, m.Lock)
		until(t, "the waiter", func() bool { return len(keys(t, c, "lock/")) == 2 })
		must(t, holder.Unlock(soon(t)))
		must(t, <-done)
		count(n.txns.Load() - before - 1)
	}
	if handedOver == 0 {
		t.Error("it took two requests each time")
	}
}

// TestAWriteOfTheHoldersKeyIsNoRelease has the key written anew while a waiter waits, and
// hears: that its watch stands is known from when it waited before.
func TestAWriteOfTheHoldersKeyIsNoRelease(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	held, s := session(t, newClient(t, c)), session(t, newClient(t, c))
	holder, m := concurrency.NewMutex(held, "lock"), concurrency.NewMutex(s, "lock")
	for _, writes := range []bool{false, true} {
		must(t, holder.Lock(soon(t)))
		done := lockInBackground(t, m.Lock)
		until(t, "the waiter", func() bool { return len(leased(t, c, s)) == 1 })
		if writes {
			_, err := truth(t, c).Put(soon(t), holder.Key(), "anew", clientv3.WithLease(held.Lease()))
			must(t, err)
		}
		before := revision(t, c)
		must(t, holder.Unlock(soon(t)))
		must(t, <-done)
		if rev := m.Header().Revision; rev <= before {
			t.Errorf("the lock was taken at revision %d, and given back later than %d", rev, before)
		}
		must(t, m.Unlock(soon(t)))
	}
}

// TestACandidateDoesNotBelieveAMemberThatLagsBehind answers the first look after the
// release as a member does that has not heard of the candidate's key.
func TestACandidateDoesNotBelieveAMemberThatLagsBehind(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := newClient(t, c)
	e := concurrency.NewElection(session(t, cli), "lock")
	_, err := truth(t, c).Put(soon(t), "lock/0", "")
	must(t, err)
	lagging := &lagging{KV: cli.KV}
	cli.KV = lagging
	elected := lockInBackground(t, func(ctx context.Context) error { return e.Campaign(ctx, "me") })
	until(t, "the candidate", func() bool { return len(keys(t, c, "lock/")) == 2 })
	lagging.lags.Store(true)
	_, err = truth(t, c).Delete(soon(t), "lock/0")
	must(t, err)
	must(t, <-elected)
	if lagging.lags.Load() {
		t.Error("nothing was read after the release")
	}
}

// TestALockWhoseKeyWasDeletedWhileItPassedIsLost deletes the key of a waiter, and at
// once that of the holder: the waiter may take the release for its own turn.
func TestALockWhoseKeyWasDeletedWhileItPassedIsLost(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	holder := concurrency.NewMutex(session(t, newClient(t, c)), "lock")
	s := session(t, newClient(t, c))
	for range 10 {
		must(t, holder.Lock(soon(t)))
		m := concurrency.NewMutex(s, "lock")
		done := lockInBackground(t, m.Lock)
		until(t, "the waiter", func() bool { return len(leased(t, c, s)) == 1 })
		_, err := truth(t, c).Delete(soon(t), string(leased(t, c, s)[0]))
		must(t, err)
		must(t, holder.Unlock(soon(t)))
		var lost *concurrency.LostError
		if err := <-done; err != nil {
			if !errors.As(err, &lost) {
				t.Errorf("Lock: %v", err)
			}
			continue
		}
		select {
		case <-m.Ctx().Done():
		case <-soon(t).Done():
			t.Fatal("the holder does not learn that the lock is lost")
		}
		if err := m.Unlock(soon(t)); !errors.As(err, &lost) {
			t.Errorf("Unlock: %v", err)
		}
	}
}

// lagging answers one transaction that reads as if nothing had been written yet.
type lagging struct {
	clientv3.KV
	lags atomic.Bool
}

func (l *lagging) Txn(ctx context.Context) clientv3.Txn {
	return &laggingTxn{Txn: l.KV.Txn(ctx), of: l}
}

type laggingTxn struct {
	clientv3.Txn
	of    *lagging
	reads int
}

func (x *laggingTxn) If(cs ...clientv3.Cmp) clientv3.Txn { x.Txn.If(cs...); return x }

func (x *laggingTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	for _, op := range ops {
		if op.IsGet() {
			x.reads++
		} else {
			x.reads = -len(ops)
		}
	}
	x.Txn.Then(ops...)
	return x
}

func (x *laggingTxn) Else(ops ...clientv3.Op) clientv3.Txn { x.Txn.Else(ops...); return x }

func (x *laggingTxn) Commit() (*clientv3.TxnResponse, error) {
	if x.reads <= 0 || !x.of.lags.CompareAndSwap(true, false) {
		return x.Txn.Commit()
	}
	resp := &clientv3.TxnResponse{Header: &pb.ResponseHeader{Revision: 1}, Succeeded: true}
	for range x.reads {
		resp.Responses = append(resp.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{}}})
	}
	return resp, nil
}

func TestAWaiterThatGaveUpIsPassedOver(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	holder := concurrency.NewMutex(session(t, newClient(t, c)), "lock")
	must(t, holder.Lock(soon(t)))
	quitter := concurrency.NewMutex(session(t, newClient(t, c)), "lock")
	ctx, giveUp := context.WithCancel(soon(t))
	defer giveUp()
	quit := make(chan error, 1)
	go func() { quit <- quitter.Lock(ctx) }()
	until(t, "the quitter", func() bool { return len(keys(t, c, "lock/")) == 2 })
	last := concurrency.NewMutex(session(t, newClient(t, c)), "lock")
	done := lockInBackground(t, last.Lock)
	until(t, "the last", func() bool { return len(keys(t, c, "lock/")) == 3 })
	giveUp()
	if err := <-quit; err == nil {
		t.Fatal("two holders")
	}
	until(t, "the quitter's key to go", func() bool { return len(keys(t, c, "lock/")) == 2 })
	select {
	case err := <-done:
		t.Fatalf("two holders: %v", err)
	default:
	}
	must(t, holder.Unlock(soon(t)))
	must(t, <-done)
}

func TestAWaiterEndsWithItsSession(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	for name, end := range map[string]func(t *testing.T, s *concurrency.Session){
		"orphaned": func(_ *testing.T, s *concurrency.Session) { s.Orphan() },
		"closed":   func(t *testing.T, s *concurrency.Session) { must(t, s.Close()) },
		"revoked": func(t *testing.T, s *concurrency.Session) {
			_, err := truth(t, c).Revoke(soon(t), s.Lease())
			must(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A lock of its own: of a waiter before it that goes, a waiter would hear
			// that its key is gone, before the session knows why.
			_, err := truth(t, c).Put(soon(t), name+"/0", "")
			must(t, err)
			s := session(t, newClient(t, c))
			done := lockInBackground(t, concurrency.NewMutex(s, name).Lock)
			until(t, "the waiter", func() bool { return len(leased(t, c, s)) == 1 })
			end(t, s)
			var ended *concurrency.SessionError
			if err := <-done; !errors.Is(err, concurrency.ErrSessionExpired) || !errors.As(err, &ended) || ended.Reason.String() != name {
				t.Errorf("got %v", err)
			}
			if err := concurrency.NewMutex(s, name).Lock(soon(t)); !errors.Is(err, concurrency.ErrSessionExpired) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// leased returns the keys of a session.
func leased(t *testing.T, c *etcdtest.Cluster, s *concurrency.Session) [][]byte {
	t.Helper()
	resp, err := truth(t, c).TimeToLive(soon(t), s.Lease(), clientv3.WithAttachedKeys())
	must(t, err)
	return resp.Keys
}

func TestAKeyThatIsCreatedLateIsDeleted(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	s := session(t, newClient(t, c))
	_, err := truth(t, c).Put(soon(t), "lock/0", "")
	must(t, err)
	lose(t, c, etcdtest.MethodTxn, 1)
	m := concurrency.NewMutex(s, "lock")
	ctx, giveUp := context.WithCancel(soon(t))
	defer giveUp()
	done := make(chan error, 1)
	go func() { done <- m.Lock(ctx) }()
	var key string
	until(t, "the waiter", func() bool {
		if k := leased(t, c, s); len(k) == 1 {
			key = string(k[0])
		}
		return key != ""
	})
	giveUp()
	if err := <-done; err == nil {
		t.Fatal("two holders")
	}
	until(t, "the key to go", func() bool { return len(leased(t, c, s)) == 0 })
	// The request whose answer was lost is applied once more, as it is when a
	// member was slow to pass it on.
	_, err = truth(t, c).Put(soon(t), key, "", clientv3.WithLease(s.Lease()))
	must(t, err)
	until(t, "the key to go again", func() bool { return len(leased(t, c, s)) == 0 })
}
