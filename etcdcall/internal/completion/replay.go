package completion

import (
	"context"
	"maps"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/reprise-go/reprise/etcdcall/internal/keyrange"
)

// Fetch makes a linearizable read.
type Fetch func(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error)

// Replay rebuilds the response of a write that was applied, all but its header,
// from what was found of it and what fetch reads. Its errors are those of fetch.
func (w *Write) Replay(ctx context.Context, f Found, fetch Fetch) (*pb.TxnResponse, error) {
	r := &replay{fetch: fetch, revision: f.Revision, marks: f.marks, write: w}
	return r.txn(ctx, w.Txn, f.Succeeded)
}

// replay rebuilds the response of a transaction that was applied at a revision,
// from what the store held at the revision before and from the transaction's
// own writes up to each operation. It answers as the server did, down to the
// headers of single operations.
type replay struct {
	fetch    Fetch
	revision int64 // at which the transaction was applied
	marks    map[string]byte
	write    *Write
	reached  int // nested transactions numbered so far, as Write does

	// writes are what the transaction has written so far, in order: its puts and
	// marks, and the deletes that deleted something. A delete without an end may
	// precede the put of a key in it: the server misses that overlap.
	writes []*pb.RequestOp
}

// txn rebuilds the response of a transaction of which the record or a mark tells
// the branch.
func (r *replay) txn(ctx context.Context, user *pb.TxnRequest, succeeded bool) (*pb.TxnResponse, error) {
	resp := &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: succeeded}
	if !succeeded {
		r.skip(user.GetSuccess())
	}
	for _, op := range branch(user, succeeded) {
		answer, err := r.op(ctx, op)
		if err != nil {
			return nil, err
		}
		resp.Responses = append(resp.Responses, answer)
	}
	if succeeded {
		r.skip(user.GetFailure())
	}
	return resp, nil
}

// skip counts the nested transactions of operations that were not executed.
func (r *replay) skip(ops []*pb.RequestOp) {
	for _, op := range ops {
		if nested := op.GetRequestTxn(); nested != nil {
			r.reached++
			r.skip(nested.GetSuccess())
			r.skip(nested.GetFailure())
		}
	}
}

func (r *replay) op(ctx context.Context, op *pb.RequestOp) (*pb.ResponseOp, error) {
	switch o := op.GetRequest().(type) {
	case *pb.RequestOp_RequestRange:
		resp, err := r.rangeOf(ctx, o.RequestRange)
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: resp}}, err
	case *pb.RequestOp_RequestPut:
		resp, err := r.put(ctx, o.RequestPut)
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: resp}}, err
	case *pb.RequestOp_RequestDeleteRange:
		resp, err := r.deleteRange(ctx, o.RequestDeleteRange)
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: resp}}, err
	default:
		nested := op.GetRequestTxn()
		key := r.write.markKey(r.reached)
		mark := r.marks[string(key)]
		r.reached++
		resp, err := r.txn(ctx, nested, mark == markThen)
		r.writes = append(r.writes, r.write.mark(key, mark))
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: resp}}, err
	}
}

// header is that of one operation: a server counts the transaction's revision
// from its first change on.
func (r *replay) header() *pb.ResponseHeader {
	if len(r.writes) > 0 {
		return &pb.ResponseHeader{Revision: r.revision}
	}
	return &pb.ResponseHeader{Revision: r.revision - 1}
}

func (r *replay) put(ctx context.Context, req *pb.PutRequest) (*pb.PutResponse, error) {
	resp := &pb.PutResponse{}
	if req.GetPrevKv() {
		before, err := r.view(ctx, &pb.RangeRequest{Key: req.GetKey()})
		if err != nil {
			return nil, err
		}
		if len(before) > 0 {
			resp.PrevKv = before[0]
		}
	}
	r.writes = append(r.writes, putOp(req))
	resp.Header = r.header()
	return resp, nil
}

func (r *replay) deleteRange(ctx context.Context, req *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	resp := &pb.DeleteRangeResponse{}
	look := &pb.RangeRequest{Key: req.GetKey(), RangeEnd: req.GetRangeEnd()}
	switch {
	case req.GetPrevKv() || r.wrote(look):
		before, err := r.view(ctx, look)
		if err != nil {
			return nil, err
		}
		resp.Deleted = int64(len(before))
		if req.GetPrevKv() {
			resp.PrevKvs = before
		}
	default:
		look.CountOnly = true
		counted, err := r.before(ctx, look)
		if err != nil {
			return nil, err
		}
		resp.Deleted = counted.GetCount()
	}
	if resp.Deleted > 0 {
		r.writes = append(r.writes, deleteOp(req))
	}
	resp.Header = r.header()
	return resp, nil
}

func (r *replay) rangeOf(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
	header := r.header()
	if req.GetRevision() != 0 || !r.wrote(req) {
		resp, err := r.before(ctx, req)
		if err != nil {
			return nil, err
		}
		return &pb.RangeResponse{Header: header, Kvs: resp.GetKvs(), More: resp.GetMore(), Count: resp.GetCount()}, nil
	}
	all, err := r.view(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := answerRange(all, req)
	resp.Header = header
	return resp, nil
}

// before reads the store as it was before the transaction, or at the revision
// that the request itself names.
func (r *replay) before(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
	at := &pb.RangeRequest{
		Key: req.GetKey(), RangeEnd: req.GetRangeEnd(), Limit: req.GetLimit(), Revision: req.GetRevision(),
		SortOrder: req.GetSortOrder(), SortTarget: req.GetSortTarget(),
		KeysOnly: req.GetKeysOnly(), CountOnly: req.GetCountOnly(),
		MinModRevision: req.GetMinModRevision(), MaxModRevision: req.GetMaxModRevision(),
		MinCreateRevision: req.GetMinCreateRevision(), MaxCreateRevision: req.GetMaxCreateRevision(),
	}
	if at.GetRevision() == 0 {
		at.Revision = r.revision - 1
	}
	return r.fetch(ctx, at)
}

// wrote reports whether the transaction changed a key of the range so far.
func (r *replay) wrote(req *pb.RangeRequest) bool {
	for _, w := range r.writes {
		// A delete that was followed by the read of another range costs that
		// read a detour, which is right all the same.
		if p := w.GetRequestPut(); p == nil || keyrange.Contains(req.GetKey(), req.GetRangeEnd(), p.GetKey()) {
			return true
		}
	}
	return false
}

// view returns the keys of a range with the transaction's own changes so far,
// sorted by key.
func (r *replay) view(ctx context.Context, req *pb.RangeRequest) ([]*mvccpb.KeyValue, error) {
	// A server of release 3.7 answers a range of keys only without leases.
	bare := req.GetKeysOnly() && req.GetSortTarget() != pb.RangeRequest_VALUE
	old, err := r.before(ctx, &pb.RangeRequest{Key: req.GetKey(), RangeEnd: req.GetRangeEnd(), KeysOnly: bare})
	if err != nil {
		return nil, err
	}
	kvs := make(map[string]*mvccpb.KeyValue, len(old.GetKvs()))
	for _, kv := range old.GetKvs() {
		kvs[string(kv.GetKey())] = kv
	}
	for _, w := range r.writes {
		if d := w.GetRequestDeleteRange(); d != nil {
			maps.DeleteFunc(kvs, func(key string, _ *mvccpb.KeyValue) bool {
				return keyrange.Contains(d.GetKey(), d.GetRangeEnd(), []byte(key))
			})
			continue
		}
		if p := w.GetRequestPut(); keyrange.Contains(req.GetKey(), req.GetRangeEnd(), p.GetKey()) {
			kv := r.written(p, kvs[string(p.GetKey())])
			if bare {
				kv.Lease = 0
			}
			kvs[string(p.GetKey())] = kv
		}
	}
	return sortedByKey(kvs), nil
}

// written is what a put made of a key.
func (r *replay) written(p *pb.PutRequest, old *mvccpb.KeyValue) *mvccpb.KeyValue {
	kv := &mvccpb.KeyValue{
		Key: p.GetKey(), Value: p.GetValue(), Lease: p.GetLease(),
		CreateRevision: r.revision, ModRevision: r.revision, Version: 1,
	}
	if old != nil {
		kv.CreateRevision = old.GetCreateRevision()
		kv.Version = old.GetVersion() + 1
		if p.GetIgnoreValue() {
			kv.Value = old.GetValue()
		}
		if p.GetIgnoreLease() {
			kv.Lease = old.GetLease()
		}
	}
	return kv
}
