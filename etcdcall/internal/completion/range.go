package completion

import (
	"bytes"
	"cmp"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func sortedByKey(kvs map[string]*mvccpb.KeyValue) []*mvccpb.KeyValue {
	out := make([]*mvccpb.KeyValue, 0, len(kvs))
	for _, kv := range kvs {
		out = append(out, kv)
	}
	slices.SortFunc(out, func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.GetKey(), b.GetKey()) })
	return out
}

// answerRange makes the response to a range of which all are the keys, sorted
// by key: it counts, filters, sorts, limits and strips as a server does, in
// that order. It changes all.
//
// Without an order a server looks only at as many keys as the limit says, and at
// one more, which it sorts all the same where there is a target to sort by.
func answerRange(all []*mvccpb.KeyValue, req *pb.RangeRequest) *pb.RangeResponse {
	resp := &pb.RangeResponse{Count: int64(len(all))}
	if req.GetCountOnly() {
		return resp
	}
	limit, kvs := req.GetLimit(), all
	if hasFilters(req) {
		kvs = slices.DeleteFunc(kvs, func(kv *mvccpb.KeyValue) bool { return filtered(kv, req) })
	} else if req.GetSortOrder() == pb.RangeRequest_NONE && limit > 0 && int64(len(kvs)) > limit {
		kvs = kvs[:limit+1]
	}
	sortRange(kvs, req)
	if limit > 0 && int64(len(kvs)) > limit {
		kvs, resp.More = kvs[:limit], true
	}
	if req.GetKeysOnly() {
		for _, kv := range kvs {
			kv.Value = nil
		}
	}
	resp.Kvs = kvs
	return resp
}

func hasFilters(req *pb.RangeRequest) bool {
	return req.GetMinModRevision() != 0 || req.GetMaxModRevision() != 0 ||
		req.GetMinCreateRevision() != 0 || req.GetMaxCreateRevision() != 0
}

func filtered(kv *mvccpb.KeyValue, req *pb.RangeRequest) bool {
	outside := func(rev, least, most int64) bool {
		return least != 0 && rev < least || most != 0 && rev > most
	}
	return outside(kv.GetModRevision(), req.GetMinModRevision(), req.GetMaxModRevision()) ||
		outside(kv.GetCreateRevision(), req.GetMinCreateRevision(), req.GetMaxCreateRevision())
}

// sortRange sorts by the target of req. Without an order, etcd sorts ascending
// by every target but the key. Keys that compare equal come in the order that
// the algorithm leaves them in, which package sort, on which etcd relies, shares
// with package slices.
func sortRange(kvs []*mvccpb.KeyValue, req *pb.RangeRequest) {
	compare := compareBy(req.GetSortTarget())
	switch req.GetSortOrder() {
	case pb.RangeRequest_DESCEND:
		slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int { return compare(b, a) })
	default:
		slices.SortFunc(kvs, compare)
	}
}

func compareBy(target pb.RangeRequest_SortTarget) func(a, b *mvccpb.KeyValue) int {
	switch target {
	case pb.RangeRequest_VERSION:
		return func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.GetVersion(), b.GetVersion()) }
	case pb.RangeRequest_CREATE:
		return func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.GetCreateRevision(), b.GetCreateRevision()) }
	case pb.RangeRequest_MOD:
		return func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.GetModRevision(), b.GetModRevision()) }
	case pb.RangeRequest_VALUE:
		return func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.GetValue(), b.GetValue()) }
	default:
		return func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.GetKey(), b.GetKey()) }
	}
}
