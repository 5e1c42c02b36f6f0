package etcdcall

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise/etcdcall/internal/keyrange"
)

// store is as much of an etcd server as exactly-once writes use, for tests in
// virtual time: what they use of it beyond this is tested against real ones.
type store struct {
	pb.KVClient
	pb.LeaseClient

	mu       sync.Mutex
	revision int64
	keys     map[string]*mvccpb.KeyValue
	past     map[int64]map[string]*mvccpb.KeyValue
	leases   map[int64]*storedLease
	granted  int64

	// delay is how long the server takes for a guarded write.
	delay time.Duration

	// fault is asked about each request, before it is handled and after: an
	// error is returned in place of the answer.
	fault  func(r request, after bool) error
	faults sync.Mutex
	seen   []request
}

type request struct {
	at     time.Time
	method string
	msg    any
}

type storedLease struct {
	ttl   time.Duration
	until time.Time
}

func newStore() *store {
	return &store{
		revision: 1,
		keys:     map[string]*mvccpb.KeyValue{},
		past:     map[int64]map[string]*mvccpb.KeyValue{},
		leases:   map[int64]*storedLease{},
	}
}

// errHang is a fault that lasts until the client gives the request up.
var errHang = errors.New("no answer")

// serve handles one request under the faults.
func serve[T any](ctx context.Context, s *store, method string, msg any, handle func() (T, error)) (T, error) {
	r := request{time.Now(), method, msg}
	s.mu.Lock()
	s.seen = append(s.seen, r)
	s.mu.Unlock()
	var resp T
	err := s.suffer(r, false)
	if err == nil {
		if txn, ok := msg.(*pb.TxnRequest); ok && len(txn.GetSuccess()) == 2 {
			time.Sleep(s.delay)
		}
		s.mu.Lock()
		s.expire()
		resp, err = handle()
		s.mu.Unlock()
		if err == nil {
			err = s.suffer(r, true)
		}
	}
	if errors.Is(err, errHang) {
		<-ctx.Done()
		err = status.FromContextError(ctx.Err()).Err()
	}
	if err != nil {
		// What the interceptor of DialOptions makes of it.
		return *new(T), &attemptError{raw: err, sent: true}
	}
	return resp, nil
}

// suffer asks the fault, for one request at a time.
func (s *store) suffer(r request, after bool) error {
	s.faults.Lock()
	defer s.faults.Unlock()
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(r, after)
}

func (s *store) setFault(f func(r request, after bool) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// requests returns those of a method, in order.
func (s *store) requests(method string) []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.seen), func(r request) bool { return r.method != method })
}

func (s *store) get(key string) *mvccpb.KeyValue {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	return s.keys[key]
}

func (s *store) expire() {
	for id, l := range s.leases {
		if !time.Now().Before(l.until) {
			s.drop(id)
		}
	}
}

func (s *store) drop(id int64) {
	delete(s.leases, id)
	s.change(func() {
		maps.DeleteFunc(s.keys, func(_ string, kv *mvccpb.KeyValue) bool { return kv.GetLease() == id })
	})
}

func (s *store) change(f func()) {
	s.past[s.revision] = maps.Clone(s.keys)
	s.revision++
	f()
}

// Txn implements pb.KVClient.
func (s *store) Txn(ctx context.Context, req *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	return serve(ctx, s, pb.KV_Txn_FullMethodName, req, func() (*pb.TxnResponse, error) {
		if slices.ContainsFunc(req.GetCompare(), func(c *pb.Compare) bool { return !s.holds(c) }) {
			return &pb.TxnResponse{Header: s.header()}, nil
		}
		for _, op := range req.GetSuccess() {
			if put := op.GetRequestPut(); put.GetLease() != 0 && s.leases[put.GetLease()] == nil {
				return nil, rpctypes.ErrGRPCLeaseNotFound
			}
		}
		resp := &pb.TxnResponse{Succeeded: true}
		s.change(func() {
			for _, op := range req.GetSuccess() {
				resp.Responses = append(resp.Responses, s.put(op.GetRequestPut()))
			}
		})
		resp.Header = s.header()
		return resp, nil
	})
}

func (s *store) header() *pb.ResponseHeader { return &pb.ResponseHeader{Revision: s.revision} }

func (s *store) holds(c *pb.Compare) bool {
	switch c.GetTarget() {
	case pb.Compare_VALUE:
		kv := s.keys[string(c.GetKey())]
		return kv != nil && bytes.Compare(kv.GetValue(), c.GetValue()) < 0
	default:
		for key := range s.keys {
			if keyrange.Contains(c.GetKey(), c.GetRangeEnd(), []byte(key)) {
				return false
			}
		}
		return true
	}
}

func (s *store) put(req *pb.PutRequest) *pb.ResponseOp {
	old := s.keys[string(req.GetKey())]
	kv := &mvccpb.KeyValue{
		Key: req.GetKey(), Value: req.GetValue(), Lease: req.GetLease(),
		CreateRevision: s.revision, ModRevision: s.revision, Version: 1,
	}
	resp := &pb.PutResponse{Header: s.header()}
	if old != nil {
		kv.CreateRevision, kv.Version = old.GetCreateRevision(), old.GetVersion()+1
		if req.GetPrevKv() {
			resp.PrevKv = old
		}
	}
	s.keys[string(req.GetKey())] = kv
	return &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: resp}}
}

// Put implements pb.KVClient.
func (s *store) Put(ctx context.Context, req *pb.PutRequest, _ ...grpc.CallOption) (*pb.PutResponse, error) {
	return serve(ctx, s, pb.KV_Put_FullMethodName, req, func() (resp *pb.PutResponse, _ error) {
		s.change(func() { resp = s.put(req).GetResponsePut() })
		return resp, nil
	})
}

// Range implements pb.KVClient.
func (s *store) Range(ctx context.Context, req *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	return serve(ctx, s, pb.KV_Range_FullMethodName, req, func() (*pb.RangeResponse, error) {
		keys := s.keys
		if rev := req.GetRevision(); rev != 0 && rev < s.revision {
			keys = s.past[rev]
		}
		var found []*mvccpb.KeyValue
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if keyrange.Contains(req.GetKey(), req.GetRangeEnd(), []byte(key)) {
				found = append(found, keys[key])
			}
		}
		return &pb.RangeResponse{Header: s.header(), Kvs: found, Count: int64(len(found))}, nil
	})
}

// LeaseGrant implements pb.LeaseClient.
func (s *store) LeaseGrant(ctx context.Context, req *pb.LeaseGrantRequest, _ ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	return serve(ctx, s, pb.Lease_LeaseGrant_FullMethodName, req, func() (*pb.LeaseGrantResponse, error) {
		id := req.GetID()
		if id == 0 {
			s.granted++
			id = 1000 + s.granted
		}
		ttl := time.Duration(req.GetTTL()) * time.Second
		s.leases[id] = &storedLease{ttl, time.Now().Add(ttl)}
		return &pb.LeaseGrantResponse{ID: id, TTL: req.GetTTL()}, nil
	})
}

// LeaseRevoke implements pb.LeaseClient.
func (s *store) LeaseRevoke(ctx context.Context, req *pb.LeaseRevokeRequest, _ ...grpc.CallOption) (*pb.LeaseRevokeResponse, error) {
	return serve(ctx, s, pb.Lease_LeaseRevoke_FullMethodName, req, func() (*pb.LeaseRevokeResponse, error) {
		s.drop(req.GetID())
		return &pb.LeaseRevokeResponse{}, nil
	})
}

// LeaseKeepAlive implements pb.LeaseClient.
func (s *store) LeaseKeepAlive(ctx context.Context, _ ...grpc.CallOption) (grpc.BidiStreamingClient[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse], error) {
	return &renewals{ctx: ctx, store: s}, nil
}

// renewals is a stream that renews one lease.
type renewals struct {
	grpc.ClientStream
	ctx   context.Context
	store *store
	req   *pb.LeaseKeepAliveRequest
}

func (r *renewals) Send(req *pb.LeaseKeepAliveRequest) error {
	r.req = req
	return nil
}

func (r *renewals) Recv() (*pb.LeaseKeepAliveResponse, error) {
	if r.req == nil {
		return nil, io.EOF
	}
	return serve(r.ctx, r.store, pb.Lease_LeaseKeepAlive_FullMethodName, r.req, func() (*pb.LeaseKeepAliveResponse, error) {
		l := r.store.leases[r.req.GetID()]
		if l == nil {
			return &pb.LeaseKeepAliveResponse{ID: r.req.GetID()}, nil
		}
		l.until = time.Now().Add(l.ttl)
		return &pb.LeaseKeepAliveResponse{ID: r.req.GetID(), TTL: int64(l.ttl / time.Second)}, nil
	})
}
