package etcdcall

import (
	"bytes"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// wrapping turns a user's transaction into one that is applied at most once
// through one slot, and turns the response back.
//
//	If Value(slot) < seq
//	Then user's operations, Put(slot, seq)
//
// Where the comparison was false the slot is read, which need not be in the
// same transaction: while a call has a slot nothing else changes it.
//
// A user's comparisons become those of a transaction inside Then, each of whose
// branches puts a record that says so. A transaction inside the user's leaves a
// mark of its own, in a key beside the slot: the records of two that follow one
// another could not be told apart in one.
type wrapping struct {
	slot  []byte
	lease int64
	seq   uint64
	marks int
}

// markSeparator follows the slot in the keys of marks, and markEnd ends the
// range of slot and marks. No other slot is in it, since all are equally long.
const (
	markSeparator = "."
	markEnd       = "/"
)

func (w *wrapping) markKey(n int) []byte {
	return append(append(bytes.Clone(w.slot), markSeparator...), strconv.Itoa(n)...)
}

// request builds the guarded transaction. It shares the user's operations.
func (w *wrapping) request(user *pb.TxnRequest) *pb.TxnRequest {
	w.marks = 0
	req := &pb.TxnRequest{Compare: []*pb.Compare{guard(w.slot, w.seq)}}
	if flat(user) {
		req.Success = append(w.marked(user.GetSuccess()), w.record(markThen))
	} else {
		inner := &pb.TxnRequest{
			Compare: user.GetCompare(),
			Success: append(w.marked(user.GetSuccess()), w.record(markThen)),
			Failure: append(w.marked(user.GetFailure()), w.record(markElse)),
		}
		req.Success = []*pb.RequestOp{txnOp(inner)}
	}
	return req
}

// flat reports whether only one branch of user can be taken.
func flat(user *pb.TxnRequest) bool {
	return len(user.GetCompare()) == 0 && len(user.GetFailure()) == 0
}

func (w *wrapping) record(mark byte) *pb.RequestOp {
	return putRecord(w.slot, w.lease, record{w.seq, mark})
}

func txnOp(req *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: req}}
}

// marked returns a copy of ops, with room for one more, in which each
// transaction leaves a mark.
func (w *wrapping) marked(ops []*pb.RequestOp) []*pb.RequestOp {
	out := make([]*pb.RequestOp, len(ops), len(ops)+1)
	copy(out, ops)
	for i, op := range ops {
		nested := op.GetRequestTxn()
		if nested == nil {
			continue
		}
		key := w.markKey(w.marks)
		w.marks++
		out[i] = txnOp(&pb.TxnRequest{
			Compare: nested.GetCompare(),
			Success: append(w.marked(nested.GetSuccess()), w.mark(key, markThen)),
			Failure: append(w.marked(nested.GetFailure()), w.mark(key, markElse)),
		})
	}
	return out
}

func (w *wrapping) mark(key []byte, m byte) *pb.RequestOp {
	return putOp(&pb.PutRequest{Key: key, Value: []byte{m}, Lease: w.lease})
}

// seal builds the transaction that keeps number seq from ever being applied.
func (w *wrapping) seal() *pb.TxnRequest {
	return &pb.TxnRequest{
		Compare: []*pb.Compare{guard(w.slot, w.seq)},
		Success: []*pb.RequestOp{w.record(markSealed)},
	}
}

// look reads the slot and its marks.
func (w *wrapping) look() *pb.RangeRequest {
	return &pb.RangeRequest{Key: w.slot, RangeEnd: append(bytes.Clone(w.slot), markEnd...)}
}

// shaped reports whether responses answer ops, each by one of its own type.
func shaped(ops []*pb.RequestOp, responses []*pb.ResponseOp) bool {
	if len(ops) != len(responses) {
		return false
	}
	for i, op := range ops {
		var answered bool
		switch r := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			answered = responses[i].GetResponseRange() != nil
		case *pb.RequestOp_RequestPut:
			answered = responses[i].GetResponsePut() != nil
		case *pb.RequestOp_RequestDeleteRange:
			answered = responses[i].GetResponseDeleteRange() != nil
		case *pb.RequestOp_RequestTxn:
			nested := responses[i].GetResponseTxn()
			answered = nested != nil && shaped(branch(r.RequestTxn, nested.GetSucceeded()), nested.GetResponses())
		}
		if !answered {
			return false
		}
	}
	return true
}

// unwrap takes the response of the user's transaction out of that of the
// guarded one, whose guard was true and which is shaped as it should be. It
// changes resp.
func unwrap(user *pb.TxnRequest, resp *pb.TxnResponse) *pb.TxnResponse {
	out := resp
	if !flat(user) {
		out = resp.GetResponses()[0].GetResponseTxn()
		out.Header = resp.GetHeader()
	}
	stripMarks(user, out)
	return out
}

// stripMarks removes the responses of records and marks, which come last in
// each branch.
func stripMarks(user *pb.TxnRequest, resp *pb.TxnResponse) {
	resp.Responses = resp.GetResponses()[:len(resp.GetResponses())-1]
	for i, op := range branch(user, resp.GetSucceeded()) {
		if nested := op.GetRequestTxn(); nested != nil {
			stripMarks(nested, resp.GetResponses()[i].GetResponseTxn())
		}
	}
}

func branch(req *pb.TxnRequest, succeeded bool) []*pb.RequestOp {
	if succeeded {
		return req.GetSuccess()
	}
	return req.GetFailure()
}

// sizeOf counts the operations of a transaction as the server limits them.
func sizeOf(req *pb.TxnRequest) int {
	nested := 0
	for _, ops := range [2][]*pb.RequestOp{req.GetSuccess(), req.GetFailure()} {
		for _, op := range ops {
			if t := op.GetRequestTxn(); t != nil {
				nested = max(nested, sizeOf(t))
			}
		}
	}
	return max(len(req.GetCompare()), len(req.GetSuccess()), len(req.GetFailure())) + nested
}
