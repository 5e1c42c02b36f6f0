package completion

import (
	"bytes"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Write is one write, the transaction of a user. It makes of it a transaction that
// is applied at most once through one slot, and turns the response back.
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
type Write struct {
	Txn   *pb.TxnRequest // the user's; nil in one that is only sealed
	Slot  []byte         // the key of the slot
	Lease int64          // to which the slot is attached
	Seq   uint64         // the number of the write, greater than those before it

	marks int
}

// markSeparator follows the slot in the keys of marks, and markEnd ends the
// range of slot and marks. No other slot is in it, since all are equally long.
const (
	markSeparator = "."
	markEnd       = "/"
)

func (w *Write) markKey(n int) []byte {
	return append(append(bytes.Clone(w.Slot), markSeparator...), strconv.Itoa(n)...)
}

// Request builds the guarded transaction. It shares the user's operations.
func (w *Write) Request() *pb.TxnRequest {
	w.marks = 0
	req := &pb.TxnRequest{Compare: []*pb.Compare{guard(w.Slot, w.Seq)}}
	if w.Flat() {
		req.Success = append(w.marked(w.Txn.GetSuccess()), w.record(markThen))
	} else {
		inner := &pb.TxnRequest{
			Compare: w.Txn.GetCompare(),
			Success: append(w.marked(w.Txn.GetSuccess()), w.record(markThen)),
			Failure: append(w.marked(w.Txn.GetFailure()), w.record(markElse)),
		}
		req.Success = []*pb.RequestOp{txnOp(inner)}
	}
	return req
}

// Flat reports whether only one branch of the user's transaction can be taken.
func (w *Write) Flat() bool {
	return len(w.Txn.GetCompare()) == 0 && len(w.Txn.GetFailure()) == 0
}

func (w *Write) record(mark byte) *pb.RequestOp {
	return putRecord(w.Slot, w.Lease, record{w.Seq, mark})
}

func txnOp(req *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: req}}
}

// marked returns a copy of ops, with room for one more, in which each
// transaction leaves a mark.
func (w *Write) marked(ops []*pb.RequestOp) []*pb.RequestOp {
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

func (w *Write) mark(key []byte, m byte) *pb.RequestOp {
	return putOp(&pb.PutRequest{Key: key, Value: []byte{m}, Lease: w.Lease})
}

// Seal builds the transaction that keeps the write from ever being applied.
func (w *Write) Seal() *pb.TxnRequest {
	return &pb.TxnRequest{
		Compare: []*pb.Compare{guard(w.Slot, w.Seq)},
		Success: []*pb.RequestOp{w.record(markSealed)},
	}
}

// Look reads the slot and its marks. Found understands the answer.
func (w *Write) Look() *pb.RangeRequest {
	return &pb.RangeRequest{Key: w.Slot, RangeEnd: append(bytes.Clone(w.Slot), markEnd...)}
}

// Response takes the response of the user's transaction out of resp, which answers
// sent, what Request has built, and says that the guard was true. It changes resp.
// It reports false if resp does not have the shape of sent.
func (w *Write) Response(sent *pb.TxnRequest, resp *pb.TxnResponse) (*pb.TxnResponse, bool) {
	if !shaped(sent.GetSuccess(), resp.GetResponses()) {
		return nil, false
	}
	out := resp
	if !w.Flat() {
		out = resp.GetResponses()[0].GetResponseTxn()
		out.Header = resp.GetHeader()
	}
	stripMarks(w.Txn, out)
	return out, true
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

// Size counts the operations of a transaction as the server limits them.
func Size(req *pb.TxnRequest) int {
	nested := 0
	for _, ops := range [2][]*pb.RequestOp{req.GetSuccess(), req.GetFailure()} {
		for _, op := range ops {
			if t := op.GetRequestTxn(); t != nil {
				nested = max(nested, Size(t))
			}
		}
	}
	return max(len(req.GetCompare()), len(req.GetSuccess()), len(req.GetFailure())) + nested
}
