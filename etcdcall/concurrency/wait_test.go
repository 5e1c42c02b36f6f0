package concurrency

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// line is a store that holds the keys of those who wait, in the order of their
// creation. A request takes latency, and is answered in the middle of it.
type line struct {
	v3.KV
	v3.Watcher
	latency time.Duration

	mu    sync.Mutex
	rev   int64
	keys  []*mvccpb.KeyValue
	heard []chan<- v3.WatchResponse // those who watch
	looks int                       // transactions that read
}

// comes creates a key.
func (l *line) comes(key string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rev++
	l.keys = append(l.keys, &mvccpb.KeyValue{Key: []byte(key), CreateRevision: l.rev, ModRevision: l.rev})
	return l.rev
}

// goes deletes keys at one revision.
func (l *line) goes(keys ...string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rev++
	var batch v3.WatchResponse
	l.keys = slices.DeleteFunc(l.keys, func(kv *mvccpb.KeyValue) bool {
		if !slices.Contains(keys, string(kv.Key)) {
			return false
		}
		batch.Events = append(batch.Events, &v3.Event{Type: v3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: kv.Key, ModRevision: l.rev}})
		return true
	})
	for _, events := range l.heard {
		events <- batch
	}
	return l.rev
}

func (l *line) Watch(ctx context.Context, key string, _ ...v3.OpOption) v3.WatchChan {
	all, own := make(chan v3.WatchResponse, 100), make(chan v3.WatchResponse, 100)
	l.mu.Lock()
	l.heard = append(l.heard, all)
	l.mu.Unlock()
	own <- begun
	go func() {
		defer close(own)
		for {
			select {
			case batch := <-all:
				for _, ev := range batch.Events {
					if string(ev.Kv.Key) == key {
						own <- v3.WatchResponse{Events: []*v3.Event{ev}}
					}
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return own
}

func (l *line) Get(_ context.Context, key string, _ ...v3.OpOption) (*v3.GetResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &v3.GetResponse{Header: l.header(), Kvs: l.find(v3.OpGet(key))}, nil
}

func (l *line) Txn(context.Context) v3.Txn { return &lineTxn{line: l} }

type lineTxn struct {
	v3.Txn
	line *line
	ops  []v3.Op
}

func (t *lineTxn) Then(ops ...v3.Op) v3.Txn {
	t.ops = ops
	return t
}

func (t *lineTxn) Commit() (*v3.TxnResponse, error) {
	time.Sleep(t.line.latency / 2)
	resp := t.line.answer(t.ops)
	time.Sleep(t.line.latency / 2)
	return resp, nil
}

func (l *line) answer(ops []v3.Op) *v3.TxnResponse {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks++
	resp := &v3.TxnResponse{Header: l.header(), Succeeded: true}
	for _, op := range ops {
		resp.Responses = append(resp.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{
			ResponseRange: &pb.RangeResponse{Kvs: l.find(op)},
		}})
	}
	return resp
}

func (l *line) header() *pb.ResponseHeader { return &pb.ResponseHeader{Revision: l.rev} }

// find returns what op reads, the youngest first.
func (l *line) find(op v3.Op) (found []*mvccpb.KeyValue) {
	for _, kv := range slices.Backward(l.keys) {
		in := bytes.Equal(kv.Key, op.KeyBytes()) ||
			bytes.Compare(kv.Key, op.KeyBytes()) > 0 && bytes.Compare(kv.Key, op.RangeBytes()) < 0
		if in && (op.MaxCreateRev() == 0 || kv.CreateRevision <= op.MaxCreateRev()) {
			found = append(found, kv)
		}
	}
	if n := op.Limit(); n > 0 && int64(len(found)) > n {
		found = found[:n]
	}
	return found
}

// waiting is a claim that waits in a line of keys, behind which it came.
type waiting struct {
	*line
	claim *claim
	ended chan error
}

// behind makes a claim that came after others.
func behind(t *testing.T, keys ...string) *waiting {
	t.Helper()
	w := &waiting{line: &line{latency: 10 * time.Millisecond}, ended: make(chan error, 1)}
	for _, key := range keys {
		w.comes(key)
	}
	s := sessionOn(t.Context(), nil, sessionOptions{})
	s.client.KV, s.client.Watcher = w.line, w.line
	w.claim = s.claim(s.term, "lock/", "", "")
	w.claim.rev = w.comes(w.claim.key)
	t.Cleanup(func() { s.end(nil) })
	return w
}

func (w *waiting) begin(ctx context.Context, p place) {
	go func() { w.ended <- w.claim.wait(ctx, p) }()
	synctest.Wait()
}

// place is the place behind so many of the keys, as the store has just told it.
func (w *waiting) place(sight int) place {
	n := len(w.keys) - 1
	ahead := slices.Clone(w.keys[max(0, n-sight):n])
	slices.Reverse(ahead)
	return place{ahead: ahead, all: sight >= n, asked: time.Now()}
}

// still fails the test if the claim does not wait any more.
func (w *waiting) still(t *testing.T) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-w.ended:
		t.Fatalf("it waits no longer: %v", err)
	default:
	}
}

// taken fails the test unless the claim is at the head by now, after so many reads,
// and says that it was so at revision rev.
func (w *waiting) taken(t *testing.T, looks int, rev int64) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-w.ended:
		if err != nil {
			t.Fatal(err)
		}
	default:
		t.Fatal("it still waits")
	}
	if w.looks != looks || w.claim.header.Revision != rev {
		t.Errorf("%d reads, want %d; at the head at revision %d, want %d", w.looks, looks, w.claim.header.Revision, rev)
	}
	if n := len(w.claim.queue.watches) - len(w.claim.queue.idle); n != 0 {
		t.Errorf("%d keys are still waited for", n)
	}
}

func TestALockThatPassesQuicklyNeedsNoReadAfterTheRelease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := behind(t, "lock/a", "lock/b")
		w.begin(t.Context(), w.place(2))
		w.goes("lock/a")
		w.still(t)
		time.Sleep(fresh - time.Nanosecond)
		w.taken(t, 1, w.goes("lock/b"))
	})
}

func TestWhoCameBehindTheHolderAlonePutsNoQuestionAfterAQuickRelease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := behind(t, "lock/a")
		w.begin(t.Context(), w.place(1))
		w.taken(t, 0, w.goes("lock/a"))
	})
}

// TestAReleaseThatComesWhileAClaimReadsIsNotMissed has the one before give the lock
// back on the way of the question and on the way of the answer.
func TestAReleaseThatComesWhileAClaimReadsIsNotMissed(t *testing.T) {
	t.Parallel()
	for _, when := range []time.Duration{time.Millisecond, 9 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			w := behind(t, "lock/a", "lock/b")
			w.begin(t.Context(), w.place(2))
			w.goes("lock/a")
			time.Sleep(when)
			rev := w.goes("lock/b")
			time.Sleep(w.latency)
			w.taken(t, 1, rev)
		})
	}
}

// TestAClaimReadsAfterTheReleaseUnlessItKnows has each thing that it has to know
// missing once.
func TestAClaimReadsAfterTheReleaseUnlessItKnows(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(w *waiting, p *place){
		"nobody asked lately":    func(_ *waiting, p *place) { p.asked = time.Now().Add(-fresh) },
		"there may be others":    func(_ *waiting, p *place) { p.all = false },
		"both belong to a lease": func(w *waiting, _ *place) { w.claim.term.lease = 0xa },
		"a candidate has to":     func(w *waiting, _ *place) { w.claim.strict = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := behind(t, "lock/a")
				p := w.place(1)
				spoil(w, &p)
				w.begin(t.Context(), p)
				rev := w.goes("lock/a")
				w.still(t)
				time.Sleep(w.latency)
				w.taken(t, 1, rev)
			})
		})
	}
}

func TestAClaimIsNotTheNextWhereSomebodyGaveUpWaiting(t *testing.T) {
	t.Parallel()
	for name, givers := range map[string][]string{
		"the one before":   {"lock/c"},
		"the one beyond":   {"lock/b"},
		"both in turn":     {"lock/b", "lock/c"},
		"both, last first": {"lock/c", "lock/b"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := behind(t, "lock/a", "lock/b", "lock/c")
				p := w.place(2)
				w.begin(t.Context(), p)
				for i, key := range givers {
					w.goes(key)
					time.Sleep(w.latency)
					w.still(t)
					if w.looks != i+1 {
						t.Errorf("%d reads after %d departures", w.looks, i+1)
					}
				}
				rest := []string{"lock/a", "lock/b", "lock/c"}
				rest = slices.DeleteFunc(rest, func(key string) bool { return slices.Contains(givers, key) })
				for i, key := range rest {
					w.still(t)
					rev := w.goes(key)
					if i == len(rest)-1 {
						w.taken(t, w.looks, rev)
					}
					time.Sleep(w.latency)
				}
			})
		})
	}
}

// TestAClaimWithOneBeforeTheOneBeforeItIsNotTheNext has the claim know that these two
// are all, as a reader does.
func TestAClaimWithOneBeforeTheOneBeforeItIsNotTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := behind(t, "lock/a", "lock/b")
		w.begin(t.Context(), w.place(2))
		w.goes("lock/b")
		time.Sleep(w.latency)
		w.still(t)
		w.taken(t, 1, w.goes("lock/a"))
	})
}

func TestAClaimIsNotTheNextWhereYoungerOnesHideTheOlder(t *testing.T) {
	t.Parallel()
	c, keys := &claim{rev: 3, term: newTerm(t.Context(), 1, 7)}, make([]*mvccpb.KeyValue, 5)
	for i := range keys { // the youngest first
		keys[i] = &mvccpb.KeyValue{Key: []byte("lock/x"), CreateRevision: int64(len(keys) - i)}
	}
	for _, read := range []struct {
		youngest []*mvccpb.KeyValue
		next     bool
	}{
		{keys[1 : 1+1+sight], false}, // a younger one, its own, and the one before
		{keys[2 : 2+1+sight], false}, // its own, and the two before
		{keys[2:4], true},
		{keys[3:4], true}, // of a reader
	} {
		p, err := c.among(t.Context(), read.youngest, time.Now())
		if err != nil || p.head() || p.ahead[0] != keys[3] || c.next(&p) != read.next {
			t.Errorf("%d keys from revision %d down: %+v, %v", len(read.youngest), read.youngest[0].CreateRevision, p, err)
		}
	}
}

func TestAClaimWhoseKeyIsGoneIsNotTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := behind(t, "lock/a", "lock/b")
		w.begin(t.Context(), w.place(2))
		w.goes("lock/a", w.claim.key)
		time.Sleep(w.latency)
		synctest.Wait()
		var lost *LostError
		if err := <-w.ended; !errors.As(err, &lost) || lost.Key != w.claim.key {
			t.Errorf("got %v", err)
		}
	})
}

func TestAClaimThatStopsWaitingLeavesNothingWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := behind(t, "lock/a", "lock/b", "lock/c")
		ctx, giveUp := context.WithCancel(t.Context())
		w.begin(ctx, w.place(2))
		w.goes("lock/c")
		time.Sleep(w.latency)
		w.still(t)
		giveUp()
		if err := <-w.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if n := len(w.claim.queue.watches) - len(w.claim.queue.idle); n != 0 {
			t.Errorf("%d keys are still waited for", n)
		}
	})
}

// TestAClaimThatIsOverIsNotTheNext has the caller give up, or the session end, and the
// one before give the lock back, while the claim reads.
func TestAClaimThatIsOverIsNotTheNext(t *testing.T) {
	t.Parallel()
	for range 30 { // either may be seen first
		for _, session := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := behind(t, "lock/a", "lock/b")
				ctx, giveUp := context.WithCancel(t.Context())
				defer giveUp()
				bound, release := w.claim.term.bound(ctx)
				defer release()
				w.begin(bound, w.place(2))
				w.goes("lock/a")
				time.Sleep(w.latency - time.Nanosecond)
				if session {
					w.claim.term.end(errors.New("over"))
				} else {
					giveUp()
				}
				w.goes("lock/b")
				if err := <-w.ended; !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}
