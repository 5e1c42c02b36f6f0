package etcdcall

import (
	"bytes"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func FuzzRecordsCompareAsTheirNumbers(f *testing.F) {
	f.Add(uint64(0), uint64(1))
	f.Add(uint64(15), uint64(16))
	f.Add(^uint64(0), uint64(9))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		for _, mark := range []byte{markNew, markSealed, markElse, markThen} {
			r := record{a, mark}.bytes()
			if back, err := parseRecord(r); err != nil || back != (record{a, mark}) {
				t.Fatalf("%q reads as %v, %v", r, back, err)
			}
			// What the server decides: the guard lets b pass over a.
			if passes := bytes.Compare(r, guard(nil, b).GetValue()) < 0; passes != (a < b) {
				t.Errorf("%d passes over %d: %v", b, a, passes)
			}
		}
	})
}

func FuzzForeignRecordsCountAsMissing(f *testing.F) {
	f.Add([]byte("0000000000000001t"))
	f.Add([]byte("0000000000000001"))
	f.Add([]byte("-000000000000001t"))
	f.Fuzz(func(t *testing.T, value []byte) {
		got := foundIn([]byte("k"), []*mvccpb.KeyValue{{Key: []byte("k"), Value: value, ModRevision: 3}})
		r, err := parseRecord(value)
		if got.missing != (err != nil) || err == nil && (got.record != r || !bytes.Equal(r.bytes()[:16], bytes.ToLower(value[:16]))) {
			t.Errorf("%q found as %+v (%v)", value, got, err)
		}
	})
}

func TestSizesAreCountedAsTheServerDoes(t *testing.T) {
	t.Parallel()
	put := putOp(&pb.PutRequest{Key: []byte("k")})
	nested := txnOp(&pb.TxnRequest{Compare: make([]*pb.Compare, 3), Failure: []*pb.RequestOp{put}})
	w := &wrapping{slot: []byte("once/1/0000")}
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
		size := sizeOf(tc.user)
		if reserved := sizeOf(w.request(tc.user)) - size; size != tc.size || reserved != tc.reserved {
			t.Errorf("size %d and %d reserved, want %d and %d", size, reserved, tc.size, tc.reserved)
		}
	}
}
