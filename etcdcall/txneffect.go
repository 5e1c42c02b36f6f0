package etcdcall

import pb "go.etcd.io/etcd/api/v3/etcdserverpb"

// effect is what a transaction can do to the store, whichever branch is taken.
type effect uint8

const (
	// readsSerializable: it only reads, and any member may answer from what it
	// has.
	readsSerializable effect = iota
	// readsLinearizable: it only reads.
	readsLinearizable
	// writes: at least one branch has a put or a delete.
	writes
)

// effectOf looks through both branches of req and the transactions in them.
// The server treats a transaction as serializable if all its ranges are, the
// comparisons notwithstanding.
func effectOf(req *pb.TxnRequest) effect {
	e := readsSerializable
	for _, branch := range [2][]*pb.RequestOp{req.GetSuccess(), req.GetFailure()} {
		for _, op := range branch {
			e = max(e, effectOfOp(op))
		}
	}
	return e
}

func effectOfOp(op *pb.RequestOp) effect {
	switch r := op.GetRequest().(type) {
	case *pb.RequestOp_RequestRange:
		if r.RequestRange.GetSerializable() {
			return readsSerializable
		}
		return readsLinearizable
	case *pb.RequestOp_RequestTxn:
		return effectOf(r.RequestTxn)
	default:
		return writes
	}
}
