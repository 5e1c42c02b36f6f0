package etcdcall

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall/internal/keyrange"
)

// reserved returns an error if req changes a key in [prefix, end).
func reserved(req *pb.TxnRequest, prefix, end string) error {
	for _, ops := range [2][]*pb.RequestOp{req.GetSuccess(), req.GetFailure()} {
		for _, op := range ops {
			if err := reservedOp(op, prefix, end); err != nil {
				return err
			}
		}
	}
	return nil
}

func reservedOp(op *pb.RequestOp, prefix, end string) error {
	switch r := op.GetRequest().(type) {
	case *pb.RequestOp_RequestPut:
		if key := r.RequestPut.GetKey(); keyrange.Overlaps(key, nil, prefix, end) {
			return &ReservedKeyError{Key: string(key), Prefix: prefix}
		}
	case *pb.RequestOp_RequestDeleteRange:
		if d := r.RequestDeleteRange; keyrange.Overlaps(d.GetKey(), d.GetRangeEnd(), prefix, end) {
			return &ReservedKeyError{Key: string(d.GetKey()), RangeEnd: string(d.GetRangeEnd()), Prefix: prefix}
		}
	case *pb.RequestOp_RequestTxn:
		return reserved(r.RequestTxn, prefix, end)
	}
	return nil
}

func endOf(prefix string) string { return clientv3.GetPrefixRangeEnd(prefix) }
