package concurrency_test

import (
	"context"
	"maps"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// fakeStore answers transactions as etcd does, and keeps them. It knows what the
// transactions of this package ask for, and no more.
type fakeStore struct {
	clientv3.KV

	mu      sync.Mutex
	history []map[string]*mvccpb.KeyValue // by revision
	cluster uint64
	asked   []request
	// latency is how long a request takes, half of it each way.
	latency time.Duration
	// lagging says that serializable reads meet a server that is behind.
	lagging bool
	// before is called before each request is answered, without the lock.
	before func(n int, r request)
}

// request is a transaction as it arrived.
type request struct {
	cmps       []*pb.Compare
	then, els  []clientv3.Op
	at         time.Time
	succeeding bool
}

func (r request) writes() bool {
	for _, op := range r.then {
		if !op.IsGet() {
			return true
		}
	}
	return false
}

func newFakeStore(latency time.Duration) *fakeStore {
	return &fakeStore{history: []map[string]*mvccpb.KeyValue{{}, {}}, cluster: 1, latency: latency}
}

// client makes a client of the store. It has no connection and no goroutines.
func (s *fakeStore) client(ctx context.Context) *clientv3.Client {
	cli := clientv3.NewCtxClient(ctx)
	cli.KV = s
	return cli
}

func (s *fakeStore) Txn(ctx context.Context) clientv3.Txn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &fakeTxn{store: s, ctx: ctx, latency: s.latency}
}

// takes sets how long the requests take that are made from now on.
func (s *fakeStore) takes(latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = latency
}

// set writes keys and values in turn, past everybody.
func (s *fakeStore) set(pairs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.next()
	for i := 0; i < len(pairs); i += 2 {
		next.put(pairs[i], pairs[i+1])
	}
	s.history = append(s.history, next.kvs)
}

func (s *fakeStore) get(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.history[len(s.history)-1][key].GetValue())
}

// requests returns what has arrived since the last call.
func (s *fakeStore) requests() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

// draft is the next revision.
type draft struct {
	rev int64
	kvs map[string]*mvccpb.KeyValue
}

func (s *fakeStore) next() draft {
	return draft{int64(len(s.history)), maps.Clone(s.history[len(s.history)-1])}
}

func (d draft) put(key, value string) {
	d.kvs[key] = &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: d.rev}
}

type fakeTxn struct {
	clientv3.Txn
	store   *fakeStore
	ctx     context.Context
	latency time.Duration
	request
}

func (t *fakeTxn) If(cmps ...clientv3.Cmp) clientv3.Txn {
	for _, cmp := range cmps {
		t.cmps = append(t.cmps, cmp.GetCompare())
	}
	return t
}

func (t *fakeTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.then = append(t.then, ops...)
	return t
}

func (t *fakeTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	t.els = append(t.els, ops...)
	return t
}

func (t *fakeTxn) Commit() (*clientv3.TxnResponse, error) {
	if err := t.way(); err != nil {
		return nil, err
	}
	s := t.store
	if s.before != nil {
		s.mu.Lock()
		n := len(s.asked)
		s.mu.Unlock()
		s.before(n, t.request)
	}
	if s.lagging && len(t.then) > 0 && t.then[0].IsSerializable() {
		return nil, rpctypes.ErrFutureRev
	}
	s.mu.Lock()
	resp := s.answer(&t.request)
	s.mu.Unlock()
	return resp, t.way()
}

func (t *fakeTxn) way() error {
	select {
	case <-t.ctx.Done():
		return t.ctx.Err()
	case <-time.After(t.latency / 2):
		return nil
	}
}

func (s *fakeStore) answer(r *request) *clientv3.TxnResponse {
	r.at, r.succeeding = time.Now(), true
	now := s.history[len(s.history)-1]
	for _, cmp := range r.cmps {
		mod, want := now[string(cmp.Key)].GetModRevision(), cmp.GetModRevision()
		if cmp.Result == pb.Compare_EQUAL && mod != want || cmp.Result == pb.Compare_LESS && mod >= want {
			r.succeeding = false
		}
	}
	s.asked = append(s.asked, *r)
	ops := r.then
	if !r.succeeding {
		ops = r.els
	}
	resp := &clientv3.TxnResponse{Succeeded: r.succeeding}
	next, changed := s.next(), false
	for _, op := range ops {
		key := string(op.KeyBytes())
		switch {
		case op.IsGet():
			resp.Responses = append(resp.Responses, s.read(key, op.Rev()))
		case op.IsPut():
			changed = true
			next.put(key, string(op.ValueBytes()))
		default:
			changed = changed || next.kvs[key] != nil
			delete(next.kvs, key)
		}
	}
	if changed {
		s.history = append(s.history, next.kvs)
	}
	resp.Header = &pb.ResponseHeader{ClusterId: s.cluster, Revision: int64(len(s.history) - 1)}
	return resp
}

func (s *fakeStore) read(key string, rev int64) *pb.ResponseOp {
	if rev == 0 {
		rev = int64(len(s.history) - 1)
	}
	r := new(pb.RangeResponse)
	if kv := s.history[rev][key]; kv != nil {
		r.Kvs = []*mvccpb.KeyValue{kv}
	}
	return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: r}}
}
