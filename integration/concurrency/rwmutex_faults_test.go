package concurrency_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/check"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// TestAWriterIsNeverBesideAnybodyUnderFaults has clients on a faulty cluster of
// three read and write under one lock in turns. It is judged by the clock
// (readers share, a writer is alone), by what readers see (nothing changes while
// they read), and by fencing (only who holds the lock alone writes). It ends when
// everybody has read and written often enough: nobody starves.
func TestAWriterIsNeverBesideAnybodyUnderFaults(t *testing.T) {
	t.Run("reprise", func(t *testing.T) {
		c := etcdtest.New(t, etcdtest.WithMembers(3), etcdtest.WithTick(50*time.Millisecond, 500*time.Millisecond))
		w := newReadersAndWriters(t, c, 6, 3)
		holds := w.run(t, faults)
		log := history(t, c)
		if err := check.Exclusive(holds); err != nil {
			t.Error(err)
		}
		if err := check.Fenced(log, "t/lock/", "t/register"); err != nil {
			t.Error(err)
		}
		if w.changed() {
			t.Error("somebody wrote while others read")
		}
		t.Logf("%d holds", len(holds))
	})
	t.Run("writers who ask to read are caught", func(t *testing.T) {
		c := etcdtest.New(t)
		w := newReadersAndWriters(t, c, 4, 5)
		w.meet = make(chan struct{})
		for i := range w.handles {
			m := w.handles[i]
			w.handles[i].lock, w.handles[i].unlock = m.rlock, m.runlock
			w.handles[i].ctx, w.handles[i].owner = m.rctx, func() clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision("never"), "=", 0) }
		}
		holds := w.run(t, undisturbed)
		if check.Exclusive(holds) == nil {
			t.Errorf("%d holds, and no writer was beside anybody", len(holds))
		}
		if check.Fenced(history(t, c), "t/lock/", "t/register") == nil {
			t.Error("no writer was out of turn")
		}
	})
}

// readersAndWriters is clients who each read and write so many times.
type readersAndWriters struct {
	cluster *etcdtest.Cluster
	clients []*clientv3.Client
	handles []rwHandle
	each    int

	// meet is closed when two have been inside, for which they wait; nil if they
	// need not meet.
	meet chan struct{}

	mu     sync.Mutex
	inside int
	holds  []check.Hold
	moved  bool
}

// rwHandle is a read-write lock as one client has it.
type rwHandle struct {
	lock, unlock, rlock, runlock func(context.Context) error
	ctx, rctx                    func() context.Context
	token                        func() int64
	owner                        func() clientv3.Cmp
}

func newReadersAndWriters(t *testing.T, c *etcdtest.Cluster, clients, each int) *readersAndWriters {
	t.Helper()
	w := &readersAndWriters{cluster: c, each: each}
	for range clients {
		cli := newClient(t, c)
		m := concurrency.NewRWMutex(session(t, cli, concurrency.WithTTL(2), concurrency.WithRegrant()), "t/lock")
		w.clients = append(w.clients, cli)
		w.handles = append(w.handles, rwHandle{m.Lock, m.Unlock, m.RLock, m.RUnlock, m.Ctx, m.RCtx, m.Token, m.IsOwner})
	}
	return w
}

func (w *readersAndWriters) run(t *testing.T, disturb func(*enough, *testing.T, *etcdtest.Cluster)) []check.Hold {
	t.Helper()
	disturbed(t, w.cluster, 2*w.each*len(w.handles), disturb, func(ctx context.Context, e *enough) {
		var wg sync.WaitGroup
		for i := range w.handles {
			wg.Go(func() {
				each := w.each * *campaign
				for reads, writes := 0, 0; writes < each && ctx.Err() == nil; {
					switch {
					case reads <= writes && w.read(ctx, i):
						reads++
						e.add()
					case reads > writes && w.write(ctx, i):
						writes++
						e.add()
					}
				}
			})
		}
		wg.Wait()
	})
	return w.holds
}

func (w *readersAndWriters) read(ctx context.Context, i int) bool {
	m := w.handles[i]
	asked, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	if m.rlock(asked) != nil {
		return false
	}
	held := m.rctx()
	hold := check.Hold{Holder: "reader " + strconv.Itoa(i), Shared: true, From: time.Now()}
	before, errBefore := w.clients[i].Get(held, "t/register")
	w.rest(held)
	after, errAfter := w.clients[i].Get(held, "t/register")
	if errBefore == nil && errAfter == nil && held.Err() == nil && len(after.Kvs) > 0 {
		if len(before.Kvs) == 0 || before.Kvs[0].ModRevision != after.Kvs[0].ModRevision {
			w.mu.Lock()
			w.moved = true
			w.mu.Unlock()
		}
	}
	w.held(hold, held)
	giveUp(ctx, m.runlock)
	return true
}

func (w *readersAndWriters) write(ctx context.Context, i int) bool {
	m := w.handles[i]
	asked, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	if m.lock(asked) != nil {
		return false
	}
	held := m.ctx()
	hold := check.Hold{Holder: "writer " + strconv.Itoa(i), Token: m.token(), From: time.Now()}
	_, _ = w.clients[i].Txn(held).If(m.owner()).Then(clientv3.OpPut("t/register", strconv.FormatInt(hold.Token, 10))).Commit()
	w.rest(held)
	w.held(hold, held)
	giveUp(ctx, m.unlock)
	return true
}

// rest does nothing for some milliseconds, unless the lock is lost.
func (w *readersAndWriters) rest(held context.Context) {
	if w.meet == nil {
		rest(held)
		return
	}
	w.mu.Lock()
	if w.inside++; w.inside == 2 && !isClosed(w.meet) {
		close(w.meet)
	}
	w.mu.Unlock()
	select {
	case <-w.meet:
	case <-held.Done():
	}
	w.mu.Lock()
	w.inside--
	w.mu.Unlock()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func rest(held context.Context) {
	select {
	case <-held.Done():
	case <-time.After(time.Duration(1+rand.IntN(5)) * time.Millisecond):
	}
}

func (w *readersAndWriters) held(h check.Hold, held context.Context) {
	h.Until = time.Now()
	if held.Err() != nil {
		h.Until = h.From // it was lost in between, at a time that is not known
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holds = append(w.holds, h)
}

// giveUp gives a lock back, now or in the background.
func giveUp(ctx context.Context, give func(context.Context) error) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stop()
	_ = give(ctx)
}

func (w *readersAndWriters) changed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.moved
}
