package completion

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func TestTheShapeOfAnAnswer(t *testing.T) {
	t.Parallel()
	read := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{}}}
	wrote := putOp(&pb.PutRequest{})
	nested := txnOp(&pb.TxnRequest{Success: []*pb.RequestOp{read}, Failure: []*pb.RequestOp{wrote, wrote}})
	ranged := &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{}}}
	was := &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{}}}
	txn := func(succeeded bool, r ...*pb.ResponseOp) *pb.ResponseOp {
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: &pb.TxnResponse{Succeeded: succeeded, Responses: r}}}
	}
	for name, c := range map[string]struct {
		op   *pb.RequestOp
		resp *pb.ResponseOp
		want bool
	}{
		"a read":                        {read, ranged, true},
		"a read answered as a put":      {read, was, false},
		"a put":                         {wrote, was, true},
		"a put answered as a read":      {wrote, ranged, false},
		"then":                          {nested, txn(true, ranged), true},
		"else":                          {nested, txn(false, was, was), true},
		"then answered as else":         {nested, txn(true, was, was), false},
		"else without one":              {nested, txn(false, was), false},
		"a transaction answered as put": {nested, was, false},
		"an operation that is none":     {&pb.RequestOp{}, was, false},
	} {
		if got := shaped([]*pb.RequestOp{c.op}, []*pb.ResponseOp{c.resp}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSizesAreCountedAsTheServerDoes(t *testing.T) {
	t.Parallel()
	put := putOp(&pb.PutRequest{Key: []byte("k")})
	nested := txnOp(&pb.TxnRequest{Compare: make([]*pb.Compare, 3), Failure: []*pb.RequestOp{put}})
	for _, tc := range []struct {
		user     *pb.TxnRequest
		size     int
		reserved int
	}{
		{&pb.TxnRequest{Success: []*pb.RequestOp{put}}, 1, 1},
		{&pb.TxnRequest{Compare: make([]*pb.Compare, 2), Success: []*pb.RequestOp{put}}, 2, 1},
		{&pb.TxnRequest{Compare: make([]*pb.Compare, 1), Success: []*pb.RequestOp{put, put}}, 2, 2},
		{&pb.TxnRequest{Success: []*pb.RequestOp{put, nested}}, 5, 1},
	} {
		w := &Write{Txn: tc.user, Slot: []byte("once/1/0000")}
		size := Size(tc.user)
		if reserved := Size(w.Request()) - size; size != tc.size || reserved != tc.reserved {
			t.Errorf("size %d and %d reserved, want %d and %d", size, reserved, tc.size, tc.reserved)
		}
	}
}
