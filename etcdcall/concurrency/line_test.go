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
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	v3 "go.etcd.io/etcd/client/v3"
)

// line is a store that holds the keys of those who wait, in the order of their
// creation. A request takes latency, and is answered in the middle of it.
type line struct {
	v3.KV
	v3.Watcher
	v3.Lease
	latency time.Duration

	mu    sync.Mutex
	rev   int64
	keys  []*mvccpb.KeyValue
	heard []chan<- v3.WatchResponse // those who watch
	looks int                       // transactions that read
	// revoked says that the lease of whoever asks is not there.
	revoked bool
}

func (*line) Close() error { return nil }

func (l *line) TimeToLive(context.Context, v3.LeaseID, ...v3.LeaseOption) (*v3.LeaseTimeToLiveResponse, error) {
	if l.revoked {
		return &v3.LeaseTimeToLiveResponse{TTL: -1}, nil
	}
	return &v3.LeaseTimeToLiveResponse{TTL: 1}, nil
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

// vanish takes all keys, of which no watch tells.
func (l *line) vanish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rev++
	l.keys = nil
}

func (l *line) Watch(ctx context.Context, key string, opts ...v3.OpOption) v3.WatchChan {
	what := v3.OpGet(key, opts...)
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
				batch.Events = slices.DeleteFunc(slices.Clone(batch.Events), func(ev *v3.Event) bool { return !within(what, ev.Kv) })
				if len(batch.Events) > 0 {
					own <- batch
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return own
}

func (l *line) Get(_ context.Context, key string, opts ...v3.OpOption) (*v3.GetResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &v3.GetResponse{Header: l.header(), Kvs: l.find(v3.OpGet(key, opts...))}, nil
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
		if within(op, kv) && (op.MaxCreateRev() == 0 || kv.CreateRevision <= op.MaxCreateRev()) {
			found = append(found, kv)
		}
	}
	if n := op.Limit(); n > 0 && int64(len(found)) > n {
		found = found[:n]
	}
	return found
}

// within reports whether op is about a key.
func within(op v3.Op, kv *mvccpb.KeyValue) bool {
	return bytes.Equal(kv.Key, op.KeyBytes()) ||
		bytes.Compare(kv.Key, op.KeyBytes()) > 0 && bytes.Compare(kv.Key, op.RangeBytes()) < 0
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
	s.client.KV, s.client.Watcher, s.client.Lease = w.line, w.line, w.line
	w.claim = s.claim(s.term, "lock/", "", "")
	w.claim.rev = w.comes(w.claim.key)
	t.Cleanup(func() { s.end(nil) })
	return w
}

// waitedFor returns how many keys are waited for.
func (q *queue) waitedFor() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range q.watches {
		n += min(1, len(w.waiters))
	}
	return n
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
	p := place{ahead: ahead, asked: time.Now()}
	if sight >= n {
		p.known = w.rev
	}
	return p
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
	if n := w.claim.queue.waitedFor(); n != 0 {
		t.Errorf("%d keys are still waited for", n)
	}
}

// missed fails the test unless the claim has said by now that its key is gone.
func (w *waiting) missed(t *testing.T) {
	t.Helper()
	synctest.Wait()
	err, lost := <-w.ended, new(LostError)
	if w.revoked && err != rpctypes.ErrLeaseNotFound || !w.revoked && (!errors.As(err, &lost) || lost.Key != w.claim.key) { //nolint:errorlint // the very error is what the session looks for
		t.Errorf("got %v, revoked: %v", err, w.revoked)
	}
}
