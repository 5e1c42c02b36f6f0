package concurrency_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	raw "go.etcd.io/etcd/client/v3/concurrency"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestALockIsHeldByOneAtATimeInTheOrderOfArrival(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	const lockers, rounds = 8, 20
	var (
		wg      sync.WaitGroup
		holding int
		last    int64
	)
	for range lockers {
		s := session(t, c.Client(t))
		m := concurrency.NewMutex(s, "lock")
		wg.Go(func() {
			for range rounds {
				if err := m.Lock(soon(t)); err != nil {
					t.Error(err)
					return
				}
				if holding++; holding != 1 {
					t.Errorf("%d holders", holding)
				}
				if m.Token() <= last {
					t.Errorf("token %d after %d", m.Token(), last)
				}
				last = m.Token()
				holding--
				if err := m.Unlock(soon(t)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if left := keys(t, c, "lock/"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTwoHandlesOnOneSessionExcludeEachOther(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := c.Client(t)

	t.Run("not in clientv3", func(t *testing.T) {
		s, err := raw.NewSession(cli)
		must(t, err)
		defer s.Close()
		a, b := raw.NewMutex(s, "raw"), raw.NewMutex(s, "raw")
		must(t, a.Lock(soon(t)))
		must(t, b.Lock(soon(t)))
	})

	s := session(t, cli)
	a, b := concurrency.NewMutex(s, "lock"), concurrency.NewMutex(s, "lock")
	must(t, a.Lock(soon(t)))
	if err := b.TryLock(soon(t)); err != concurrency.ErrLocked { //nolint:errorlint // the very error is promised
		t.Errorf("TryLock: %v", err)
	}
	if err := b.Lock(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock: %v", err)
	}
	must(t, a.Unlock(soon(t)))
	must(t, b.Lock(soon(t)))
	must(t, b.Unlock(soon(t)))
	if err := b.Unlock(soon(t)); err != concurrency.ErrLockReleased { //nolint:errorlint // the very error is promised
		t.Errorf("second Unlock: %v", err)
	}
}

func TestLocksOfClientv3AndOfRepriseExcludeEachOther(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	rs, err := raw.NewSession(c.Client(t))
	must(t, err)
	defer rs.Close()
	old, s := raw.NewMutex(rs, "lock"), session(t, c.Client(t))
	m := concurrency.NewMutex(s, "lock")

	must(t, old.Lock(soon(t)))
	if err := m.TryLock(soon(t)); err != concurrency.ErrLocked { //nolint:errorlint // the very error is promised
		t.Fatalf("TryLock: %v", err)
	}
	locked := make(chan error, 1)
	go func() { locked <- m.Lock(soon(t)) }()
	until(t, "two keys", func() bool { return len(keys(t, c, "lock/")) == 2 })
	must(t, old.Unlock(soon(t)))
	must(t, <-locked)
	if err := old.TryLock(soon(t)); err != raw.ErrLocked { //nolint:errorlint // the very error is promised
		t.Fatalf("TryLock of clientv3: %v", err)
	}
	must(t, m.Unlock(soon(t)))
	must(t, old.Lock(soon(t)))
}

func TestALostResponseLeavesNoHalfHeldLock(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)

	t.Run("in clientv3 it does", func(t *testing.T) {
		s, err := raw.NewSession(c.Client(t))
		must(t, err)
		defer s.Close()
		lose(t, c, etcdtest.MethodTxn, 1)
		m := raw.NewMutex(s, "raw")
		if err := m.Lock(soon(t)); err == nil {
			t.Fatal("Lock succeeded")
		}
		if err := m.Unlock(soon(t)); err != raw.ErrLockReleased { //nolint:errorlint // the very error is promised
			t.Fatalf("Unlock: %v", err)
		}
		if len(keys(t, c, "raw/")) != 1 {
			t.Fatal("no key was left behind")
		}
	})

	type handle struct{ take, give func(context.Context) error }
	for name, of := range map[string]func(s *concurrency.Session, name string) handle{
		"Lock": func(s *concurrency.Session, name string) handle {
			m := concurrency.NewMutex(s, name)
			return handle{m.Lock, m.Unlock}
		},
		"TryLock": func(s *concurrency.Session, name string) handle {
			m := concurrency.NewMutex(s, name)
			return handle{m.TryLock, m.Unlock}
		},
		"RLock": func(s *concurrency.Session, name string) handle {
			m := concurrency.NewRWMutex(s, name)
			return handle{m.RLock, m.RUnlock}
		},
		"TryRLock": func(s *concurrency.Session, name string) handle {
			m := concurrency.NewRWMutex(s, name)
			return handle{m.TryRLock, m.RUnlock}
		},
		"Campaign": func(s *concurrency.Session, name string) handle {
			e := concurrency.NewElection(s, name)
			return handle{func(ctx context.Context) error { return e.Campaign(ctx, "x") }, e.Resign}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := of(session(t, c.Client(t)), name)
			in := lose(t, c, etcdtest.MethodTxn, 2)
			must(t, h.take(soon(t)))
			if in.Fired() != 2 {
				t.Fatalf("%d responses were lost", in.Fired())
			}
			if got := keys(t, c, name+"/"); len(got) != 1 {
				t.Fatalf("keys %v", got)
			}
			lose(t, c, etcdtest.MethodTxn, 2)
			must(t, h.give(soon(t)))
			if got := keys(t, c, name+"/"); len(got) != 0 {
				t.Fatalf("left behind: %v", got)
			}
		})
	}
}

// lose loses the answers to the next n calls of a method.
func lose(t testing.TB, c *etcdtest.Cluster, method string, n int) *etcdtest.Injection {
	t.Helper()
	in, err := c.Inject(etcdtest.Fault{Method: method, Calls: n, After: true, Answer: etcdtest.Lose()})
	must(t, err)
	return in
}

func TestLockHonoursItsDeadlineOnADeadLink(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	holder := concurrency.NewMutex(session(t, c.Client(t)), "lock")
	must(t, holder.Lock(soon(t)))

	cli, err := clientv3.New(c.Config())
	must(t, err)
	defer cli.Close()
	s := session(t, cli)
	m := concurrency.NewMutex(s, "lock")
	const patience = 3 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- m.Lock(ctx) }()
	until(t, "the waiter's key", func() bool { return len(keys(t, c, "lock/")) == 2 })
	must(t, c.Member(0).ClientLink().BlackHole(etcdtest.Both))
	select {
	case err := <-done:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lock: %v", err)
		}
	case <-time.After(patience + 20*time.Second):
		t.Error("Lock outlived its deadline by seconds")
	}
	must(t, c.Member(0).ClientLink().Heal())
	until(t, "the waiter's key to be deleted", func() bool { return len(keys(t, c, "lock/")) == 1 })
}

// TestLockOfClientv3OutlivesItsDeadlineOnADeadLink shows of clientv3 what the test
// above shows the absence of: it removes its key before it returns, for as long as
// its client lives.
func TestLockOfClientv3OutlivesItsDeadlineOnADeadLink(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	holder := concurrency.NewMutex(session(t, newClient(t, c)), "lock")
	must(t, holder.Lock(soon(t)))

	cli := c.Client(t)
	s, err := raw.NewSession(cli)
	must(t, err)
	defer s.Orphan()
	looking := &firstGet{KV: cli.KV, called: make(chan struct{})}
	cli.KV = looking
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- raw.NewMutex(s, "lock").Lock(ctx) }()
	<-looking.called // it knows that it has to wait
	must(t, c.Member(0).ClientLink().BlackHole(etcdtest.Both))
	cancel()
	select {
	case err := <-done:
		t.Errorf("clientv3 has mended it: %v", err)
	case <-time.After(2 * time.Second):
	}
	must(t, c.Member(0).ClientLink().Heal())
	<-done
}

// firstGet tells of the first Get that is called.
type firstGet struct {
	clientv3.KV
	once   sync.Once
	called chan struct{}
}

func (g *firstGet) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	g.once.Do(func() { close(g.called) })
	return g.KV.Get(ctx, key, opts...)
}

func TestTheContextOfALockEndsWhenTheLockIsLost(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	for name, take := range map[string]func(t *testing.T, m *concurrency.Mutex){
		"deleted": func(t *testing.T, m *concurrency.Mutex) {
			_, err := truth(t, c).Delete(soon(t), m.Key())
			must(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := concurrency.NewMutex(session(t, c.Client(t)), name)
			must(t, m.Lock(soon(t)))
			ctx := m.Ctx()
			if ctx.Err() != nil {
				t.Fatal("it has ended at once")
			}
			take(t, m)
			err := waitEnd(t, ctx, "the lock's context")
			var lost *concurrency.LostError
			if !errors.As(err, &lost) || lost.Key == "" || lost.Rev == 0 {
				t.Errorf("cause: %v", err)
			}
			if err := m.Unlock(soon(t)); !errors.As(err, &lost) || !errors.Is(err, concurrency.ErrLockReleased) {
				t.Errorf("Unlock: %v", err)
			}
		})
	}
}
