package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// asked keeps the transactions that members were asked for.
type asked struct {
	mu   sync.Mutex
	txns []*pb.TxnRequest
}

func (a *asked) option() etcdtest.Option {
	return etcdtest.WithServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if txn, ok := req.(*pb.TxnRequest); ok {
				a.mu.Lock()
				a.txns = append(a.txns, txn)
				a.mu.Unlock()
			}
			return handler(ctx, req)
		}))
}

// take returns those since the last call.
func (a *asked) take() []*pb.TxnRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	txns := a.txns
	a.txns = nil
	return txns
}

// looks counts the transactions since the last take that only read: as those do who wait
// by their neighbours, and candidates when their turn has come.
func (a *asked) looks() (n int) {
	for _, txn := range a.take() {
		if len(txn.Compare)+len(txn.Failure) == 0 {
			n++
		}
	}
	return n
}

// TestAFreeLockIsTakenWithoutReadingWhoElseIsThere looks into the requests: to read
// costs no round trip, but the server.
func TestAFreeLockIsTakenWithoutReadingWhoElseIsThere(t *testing.T) {
	t.Parallel()
	var a asked
	c := etcdtest.New(t, a.option())
	holder, s := concurrency.NewMutex(session(t, newClient(t, c)), "lock"), session(t, newClient(t, c))
	m, e := concurrency.NewMutex(s, "lock"), concurrency.NewElection(s, "election")
	take := func(what string, take func(context.Context) error, reading bool) {
		t.Helper()
		a.take()
		must(t, take(soon(t)))
		txns := a.take()
		if len(txns) != 1 {
			t.Fatalf("%s: %d requests", what, len(txns))
		}
		if ops := len(txns[0].Success) + len(txns[0].Failure); (ops > 1) != reading {
			t.Errorf("%s: %d operations, reading: %v", what, ops, !reading)
		}
	}
	campaign := func(ctx context.Context) error { return e.Campaign(ctx, "x") }
	for range 2 {
		take("Lock", m.Lock, false)
		take("Campaign", campaign, false)
		must(t, m.Unlock(soon(t)))
		must(t, e.Resign(soon(t)))
	}
	// Who had to wait reads at once the next time, and no longer if it need not
	// have.
	must(t, holder.Lock(soon(t)))
	waiting := lockInBackground(t, m.Lock)
	until(t, "the waiter", func() bool { return len(keys(t, c, "lock/")) == 2 })
	must(t, holder.Unlock(soon(t)))
	must(t, <-waiting)
	for _, reading := range []bool{true, false} {
		must(t, m.Unlock(soon(t)))
		take("Lock after waiting", m.Lock, reading)
	}
}

func TestALeaderWhoCampaignsOnlyProclaims(t *testing.T) {
	t.Parallel()
	var a asked
	c := etcdtest.New(t, a.option())
	e := concurrency.NewElection(session(t, newClient(t, c)), "election")
	must(t, e.Campaign(soon(t), "one"))
	ctx := e.Ctx()
	for _, proclaim := range []func(context.Context, string) error{e.Proclaim, e.Campaign, e.Campaign} {
		a.take()
		must(t, proclaim(soon(t), "two"))
		if txns := a.take(); len(txns) != 1 {
			t.Errorf("%d requests", len(txns))
		}
	}
	must(t, e.Resign(soon(t)))
	if ctx.Err() == nil {
		t.Error("the context is not that of the leadership any more")
	}
}

// watched remembers the keys that clients began to watch.
type watched struct {
	mu   sync.Mutex
	keys []string
}

func (w *watched) option() etcdtest.Option {
	return etcdtest.WithServerOptions(grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, &watchedStream{ss, w})
		}))
}

// get returns them in order, each once.
func (w *watched) get() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(w.keys)))
}

// begun returns how many watches were begun.
func (w *watched) begun() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.keys)
}

type watchedStream struct {
	grpc.ServerStream
	watched *watched
}

func (s *watchedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if r, ok := m.(*pb.WatchRequest); ok && err == nil && r.GetCreateRequest() != nil {
		s.watched.mu.Lock()
		defer s.watched.mu.Unlock()
		s.watched.keys = append(s.watched.keys, string(r.GetCreateRequest().Key))
	}
	return err
}

// TestOneWatchServesTheWaitersOfALock has waiters on four sessions, of which some give up,
// and looks into the requests and the watches: each session has one watch, whatever
// happens, and who waits asks for nothing between its own key's creation and deletion.
func TestOneWatchServesTheWaitersOfALock(t *testing.T) {
	t.Parallel()
	var (
		a asked
		w watched
	)
	c := etcdtest.New(t, a.option(), w.option())
	const sessions, each = 4, 6
	holder := concurrency.NewMutex(session(t, newClient(t, c)), "lock")
	must(t, holder.Lock(soon(t)))
	var (
		wg    sync.WaitGroup
		order contest
		quit  []context.CancelFunc
	)
	for i := range sessions {
		s := session(t, newClient(t, c))
		for j := range each {
			ctx, giveUp := context.WithCancel(soon(t))
			defer giveUp()
			m := concurrency.NewMutex(s, "lock")
			quits := j == 2
			if quits {
				quit = append(quit, giveUp)
			}
			wg.Go(func() {
				err := m.Lock(ctx)
				if quits {
					if !errors.Is(err, context.Canceled) {
						t.Errorf("who gives up gets %v", err)
					}
					return
				}
				must(t, err)
				order.hold(t, m.Token())
				must(t, m.Unlock(soon(t)))
			})
			until(t, "the waiter", func() bool { return len(keys(t, c, "lock/")) == 2+i*each+j })
		}
	}
	until(t, "the watches", func() bool { return w.begun() == sessions })
	a.take()
	for _, giveUp := range quit {
		giveUp()
	}
	until(t, "who gave up to go", func() bool { return len(keys(t, c, "lock/")) == 1+sessions*(each-1) })
	must(t, holder.Unlock(soon(t)))
	wg.Wait()
	if made, want := len(a.take()), 1+sessions*each; made != want {
		t.Errorf("%d transactions, want %d: the deletions", made, want)
	}
	if n := w.begun(); n != sessions || !slices.Equal(w.get(), []string{"lock/"}) {
		t.Errorf("%d watches over %v, want one for each session", n, w.get())
	}
}

// TestAWaiterInACrowdWatchesTheTwoBeforeItAlone has others be there before it, the first
// of whom writes its key anew, and go, the youngest first. The rest of the crowd goes
// before them.
func TestAWaiterInACrowdWatchesTheTwoBeforeItAlone(t *testing.T) {
	t.Parallel()
	var (
		a asked
		w watched
	)
	c := etcdtest.New(t, a.option(), w.option())
	const crowd = 12
	var others []string
	for i := range crowd {
		others = append(others, fmt.Sprint("lock/other", i))
	}
	for _, key := range append(others, "lock/z", "lock/y", "lock/0", "lock/1", "lock/z") {
		_, err := truth(t, c).Put(soon(t), key, "a value")
		must(t, err)
	}
	m := concurrency.NewMutex(session(t, newClient(t, c)), "lock")
	locked := lockInBackground(t, m.Lock)
	until(t, "the waiter", func() bool { return len(w.get()) == 2 })
	_, err := truth(t, c).Delete(soon(t), "lock/other", clientv3.WithPrefix())
	must(t, err)
	for _, step := range []struct {
		watched []string // by then
		goes    string
	}{
		{[]string{"lock/0", "lock/1"}, "lock/1"},
		{[]string{"lock/0", "lock/1", "lock/y"}, "lock/0"},
		{[]string{"lock/0", "lock/1", "lock/y", "lock/z"}, "lock/y"},
		{[]string{"lock/0", "lock/1", "lock/y", "lock/z"}, "lock/z"},
	} {
		until(t, "a watch", func() bool { return len(w.get()) >= len(step.watched) })
		if got := w.get(); !slices.Equal(got, step.watched) {
			t.Fatalf("it watches %v, want %v", got, step.watched)
		}
		_, err := truth(t, c).Delete(soon(t), step.goes)
		must(t, err)
	}
	must(t, <-locked)
	// What it reads of them is no more than that takes.
	reads := 0
	for _, txn := range a.take() {
		for _, op := range slices.Concat(txn.Success, txn.Failure) {
			if r := op.GetRequestRange(); len(r.GetRangeEnd()) > 0 {
				if reads++; r.Limit < 2 || r.Limit > 40 || !r.KeysOnly {
					t.Errorf("read: %v", r)
				}
			}
		}
	}
	if reads == 0 {
		t.Error("nothing was read")
	}
}
