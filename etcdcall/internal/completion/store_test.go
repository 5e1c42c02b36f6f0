package completion

import (
	"bytes"
	"context"
	"maps"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/reprise-go/reprise/etcdcall/internal/keyrange"
)

type keys map[string]*mvccpb.KeyValue

// store is as much of an etcd server as transactions use.
type store struct {
	revision int64
	past     map[int64]keys // what it held at each revision
}

func newStore() *store { return &store{revision: 1, past: map[int64]keys{1: {}}} }

func (s *store) clone() *store { return &store{revision: s.revision, past: maps.Clone(s.past)} }

// txn applies a transaction.
func (s *store) txn(req *pb.TxnRequest) *pb.TxnResponse {
	t := &applying{store: s, before: s.past[s.revision], now: maps.Clone(s.past[s.revision])}
	resp := t.txn(req)
	if t.changed {
		s.revision++
		s.past[s.revision] = t.now
	}
	resp.Header = &pb.ResponseHeader{Revision: s.revision}
	return resp
}

// fetch is a Fetch.
func (s *store) fetch(_ context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
	revision := req.GetRevision()
	if revision == 0 {
		revision = s.revision
	}
	return s.past[revision].find(req), nil
}

func (k keys) find(req *pb.RangeRequest) *pb.RangeResponse {
	resp := &pb.RangeResponse{}
	for _, key := range slices.Sorted(maps.Keys(k)) {
		if keyrange.Contains(req.GetKey(), req.GetRangeEnd(), []byte(key)) {
			kv := proto.CloneOf(k[key])
			if req.GetKeysOnly() {
				kv.Value, kv.Lease = nil, 0 // as etcd 3.7
			}
			resp.Kvs = append(resp.Kvs, kv)
		}
	}
	resp.Count = int64(len(resp.GetKvs()))
	if req.GetCountOnly() {
		resp.Kvs = nil
	}
	return resp
}

// applying is a transaction under way. All branches are chosen by what was before it;
// its operations see each other.
type applying struct {
	store       *store
	before, now keys
	changed     bool
}

func (t *applying) txn(req *pb.TxnRequest) *pb.TxnResponse {
	resp := &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: !slices.ContainsFunc(req.GetCompare(), func(c *pb.Compare) bool { return !t.holds(c) })}
	ops := req.GetFailure()
	if resp.GetSucceeded() {
		ops = req.GetSuccess()
	}
	for _, op := range ops {
		resp.Responses = append(resp.Responses, t.op(op))
	}
	return resp
}

// holds decides a guard, or whether a key is at a version.
func (t *applying) holds(c *pb.Compare) bool {
	kv := t.before[string(c.GetKey())]
	if c.GetTarget() == pb.Compare_VALUE {
		return kv != nil && bytes.Compare(kv.GetValue(), c.GetValue()) < 0
	}
	return kv.GetVersion() == c.GetVersion()
}

func (t *applying) op(op *pb.RequestOp) *pb.ResponseOp {
	switch o := op.GetRequest().(type) {
	case *pb.RequestOp_RequestPut:
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: t.put(o.RequestPut)}}
	case *pb.RequestOp_RequestDeleteRange:
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: t.deleteRange(o.RequestDeleteRange)}}
	case *pb.RequestOp_RequestRange:
		held := t.now
		if revision := o.RequestRange.GetRevision(); revision != 0 {
			held = t.store.past[revision]
		}
		resp := held.find(o.RequestRange)
		resp.Header = t.header()
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: resp}}
	default:
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: t.txn(op.GetRequestTxn())}}
	}
}

func (t *applying) header() *pb.ResponseHeader {
	if t.changed {
		return &pb.ResponseHeader{Revision: t.store.revision + 1}
	}
	return &pb.ResponseHeader{Revision: t.store.revision}
}

func (t *applying) put(req *pb.PutRequest) *pb.PutResponse {
	t.changed = true
	resp, old := &pb.PutResponse{Header: t.header()}, t.now[string(req.GetKey())]
	kv := &mvccpb.KeyValue{
		Key: req.GetKey(), Value: req.GetValue(), Lease: req.GetLease(),
		CreateRevision: t.store.revision + 1, ModRevision: t.store.revision + 1, Version: old.GetVersion() + 1,
	}
	if old != nil {
		kv.CreateRevision = old.GetCreateRevision()
		if req.GetIgnoreValue() {
			kv.Value = old.GetValue()
		}
		if req.GetIgnoreLease() {
			kv.Lease = old.GetLease()
		}
	}
	if req.GetPrevKv() {
		resp.PrevKv = old
	}
	t.now[string(req.GetKey())] = kv
	return resp
}

func (t *applying) deleteRange(req *pb.DeleteRangeRequest) *pb.DeleteRangeResponse {
	found := t.now.find(&pb.RangeRequest{Key: req.GetKey(), RangeEnd: req.GetRangeEnd()})
	for _, kv := range found.GetKvs() {
		t.changed = true
		delete(t.now, string(kv.GetKey()))
	}
	resp := &pb.DeleteRangeResponse{Header: t.header(), Deleted: found.GetCount()}
	if req.GetPrevKv() {
		resp.PrevKvs = found.GetKvs()
	}
	return resp
}
