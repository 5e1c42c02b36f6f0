package concurrency_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	raw "go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestNewSessionIsBounded(t *testing.T) {
	t.Parallel()
	cfg := clientv3.Config{Endpoints: []string{"127.0.0.1:1"}, DialTimeout: 100 * time.Millisecond, Logger: zap.NewNop()}
	for name, make := range map[string]func() (*clientv3.Client, error){
		"clientv3": func() (*clientv3.Client, error) { return clientv3.New(cfg) },
		"etcdcall": func() (*clientv3.Client, error) { return etcdcall.New(cfg) },
	} {
		for by, opt := range map[string]concurrency.SessionOption{
			"its own time": concurrency.WithGrantTimeout(300 * time.Millisecond),
			"its context":  concurrency.WithContext(within(t, 300*time.Millisecond)),
		} {
			t.Run(name+" by "+by, func(t *testing.T) {
				t.Parallel()
				cli, err := make()
				must(t, err)
				defer cli.Close()
				ended := lockInBackground(t, func(context.Context) error {
					_, err := concurrency.NewSession(cli, opt)
					return err
				})
				if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
	t.Run("by the end of its context", func(t *testing.T) {
		t.Parallel()
		cli, err := etcdcall.New(cfg)
		must(t, err)
		defer cli.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := concurrency.NewSession(cli, concurrency.WithContext(ctx), concurrency.WithGrantTimeout(time.Minute)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("in clientv3 it is not", func(t *testing.T) {
		t.Parallel()
		cli, err := clientv3.New(cfg)
		must(t, err)
		ended := lockInBackground(t, func(context.Context) error {
			_, err := raw.NewSession(cli)
			return err
		})
		select {
		case err := <-ended:
			t.Errorf("clientv3 has mended it: %v", err)
		case <-time.After(time.Second):
		}
		must(t, cli.Close())
		<-ended
	})
}

// TestASessionEndsBeforeItsLease cuts the link at each phase of a session's first
// renewals, and compares when the session ends with when the server lets the
// lease expire.
func TestASessionEndsBeforeItsLease(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(t testing.TB, c *etcdtest.Cluster) *clientv3.Client{
		"etcdcall": newClient,
		"clientv3": func(t testing.TB, c *etcdtest.Cluster) *clientv3.Client { return c.Client(t) },
	} {
		for _, phase := range []time.Duration{5 * time.Millisecond, 700 * time.Millisecond, 1100 * time.Millisecond} {
			t.Run(name+" cut after "+phase.String(), func(t *testing.T) {
				t.Parallel()
				c := etcdtest.New(t)
				cli := make(t, c)
				// The lease lives for some 0.2 s longer than the session: a busy
				// machine may be late to look, once in a while.
				for range 5 {
					if sessionEndsFirst(t, c, cli, phase) {
						return
					}
				}
				t.Error("the lease has expired, and the session believed in it")
			})
		}
	}
}

// sessionEndsFirst cuts a session off from the cluster after some time, and
// reports whether its lease still lives when the session ends.
func sessionEndsFirst(t *testing.T, c *etcdtest.Cluster, cli *clientv3.Client, phase time.Duration) bool {
	t.Helper()
	s := session(t, cli, concurrency.WithTTL(2))
	<-time.After(phase)
	must(t, c.Member(0).ClientLink().BlackHole(etcdtest.Both))
	err := waitEnd(t, s.Ctx(), "the session")
	lives := leaseLives(t, c, s.Lease())
	if ended, ok := errors.AsType[*concurrency.SessionError](err); !ok || ended.Reason != concurrency.SessionExpired {
		t.Errorf("cause: %v", err)
	}
	must(t, c.Member(0).ClientLink().Heal())
	return lives
}

func leaseLives(t *testing.T, c *etcdtest.Cluster, id clientv3.LeaseID) bool {
	t.Helper()
	resp, err := truth(t, c).TimeToLive(soon(t), id)
	must(t, err)
	return resp.TTL >= 0
}

func TestASessionOfClientv3BelievesInALeaseThatHasExpired(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := c.Client(t)
	lease, err := cli.Grant(soon(t), 2)
	must(t, err)
	must(t, c.Member(0).ClientLink().BlackHole(etcdtest.Both))
	s, err := raw.NewSession(cli, raw.WithLease(lease.ID))
	must(t, err)
	defer s.Orphan()
	until(t, "the lease to expire", func() bool { return !leaseLives(t, c, s.Lease()) })
	select {
	case <-s.Done():
		t.Error("clientv3 has mended it")
	default:
	}
	must(t, c.Member(0).ClientLink().Heal())
}

func TestASessionHearsOfItsRevocation(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	for name, cli := range map[string]*clientv3.Client{"etcdcall": newClient(t, c), "clientv3": c.Client(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const ttl = 90 * time.Second
			s := session(t, cli, concurrency.WithTTL(int(ttl/time.Second)))
			_, err := truth(t, c).Revoke(soon(t), s.Lease())
			must(t, err)
			revoked := time.Now()
			var ended *concurrency.SessionError
			if err := waitEnd(t, s.Ctx(), "the session"); !errors.As(err, &ended) || ended.Reason != concurrency.SessionRevoked ||
				ended.Lease != s.Lease() || ended.Epoch != 1 || !errors.Is(err, rpctypes.ErrLeaseNotFound) {
				t.Errorf("cause: %v", err)
			}
			if took := time.Since(revoked); took > ttl/3 {
				t.Errorf("it took %v of a lease of %v", took, ttl)
			}
			must(t, s.Close())
		})
	}
}

func TestCloseRevokesAndOrphanDoesNot(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := newClient(t, c)
	closed, orphaned := session(t, cli), session(t, cli)
	must(t, closed.Close())
	must(t, closed.Close())
	orphaned.Orphan()
	if leaseLives(t, c, closed.Lease()) || !leaseLives(t, c, orphaned.Lease()) {
		t.Errorf("closed: %v, orphaned: %v", leaseLives(t, c, closed.Lease()), leaseLives(t, c, orphaned.Lease()))
	}
	again := session(t, cli, concurrency.WithLease(orphaned.Lease()))
	if again.Lease() != orphaned.Lease() || again.Client() != cli {
		t.Error("the session has another lease or client")
	}
	if _, err := concurrency.NewSession(cli, concurrency.WithLease(closed.Lease())); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("a lease that is gone: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	bound := session(t, cli, concurrency.WithContext(ctx), nil)
	cancel()
	var ended *concurrency.SessionError
	if err := waitEnd(t, bound.Ctx(), "the session"); !errors.As(err, &ended) || ended.Reason != concurrency.SessionCanceled || !errors.Is(err, context.Canceled) {
		t.Errorf("cause: %v", err)
	}
}

// TestSessionsThatKeepOneLeaseExcludeEachOther: the keys of both are bound to it.
func TestSessionsThatKeepOneLeaseExcludeEachOther(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := newClient(t, c)
	s := session(t, cli)
	one, other := concurrency.NewMutex(s, "lock"), concurrency.NewMutex(session(t, cli, concurrency.WithLease(s.Lease())), "lock")
	must(t, one.Lock(soon(t)))
	if err := other.Lock(within(t, 100*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock: %v", err)
	}
	must(t, one.Unlock(soon(t)))
	must(t, other.Lock(soon(t)))
}

func TestASessionCanGrantAnew(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	s := session(t, newClient(t, c), concurrency.WithTTL(15), concurrency.WithRegrant())
	first, ctx := s.Lease(), s.Ctx()
	m := concurrency.NewMutex(s, "lock")
	must(t, m.Lock(soon(t)))
	held, token := m.Ctx(), m.Token()

	_, err := truth(t, c).Revoke(soon(t), first)
	must(t, err)
	waitEnd(t, ctx, "the first epoch")
	if err := waitEnd(t, held, "the lock"); !errors.Is(err, concurrency.ErrSessionExpired) && !errors.Is(err, concurrency.ErrLockReleased) {
		t.Errorf("cause: %v", err)
	}
	if err := m.Unlock(soon(t)); !errors.Is(err, concurrency.ErrLockReleased) {
		t.Errorf("Unlock: %v", err)
	}
	must(t, m.Lock(soon(t)))
	if s.Epoch() != 2 || s.Lease() == first || s.Ctx().Err() != nil || m.Token() <= token {
		t.Errorf("epoch %d, lease %x after %x, token %d after %d", s.Epoch(), s.Lease(), first, m.Token(), token)
	}
	must(t, m.Unlock(soon(t)))
	must(t, s.Close())
	if err := m.Lock(soon(t)); !errors.Is(err, concurrency.ErrSessionExpired) {
		t.Errorf("after Close: %v", err)
	}
}
