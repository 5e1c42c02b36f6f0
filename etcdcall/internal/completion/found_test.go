package completion

import (
	"bytes"
	"math"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func FuzzForeignRecordsCountAsMissing(f *testing.F) {
	f.Add([]byte("0000000000000001t"))
	f.Add([]byte("0000000000000001"))
	f.Add([]byte("-000000000000001t"))
	w := &Write{Txn: &pb.TxnRequest{Failure: make([]*pb.RequestOp, 1)}, Slot: []byte("k"), Seq: math.MaxUint64}
	f.Fuzz(func(t *testing.T, value []byte) {
		got := w.Found([]*mvccpb.KeyValue{{Key: []byte("k"), Value: value, ModRevision: 3}})
		r, err := parseRecord(value)
		if (got.State == Lost) != (err != nil) || err == nil && (got.State != w.state(r) || got.Revision != 3 || !bytes.Equal(r.bytes()[:16], bytes.ToLower(value[:16]))) {
			t.Errorf("%q found as %+v (%v)", value, got, err)
		}
	})
}

func TestWhatASlotSaysOfAWrite(t *testing.T) {
	t.Parallel()
	put := []*pb.RequestOp{putOp(&pb.PutRequest{Key: []byte("k")})}
	single, branching := &pb.TxnRequest{Success: put}, &pb.TxnRequest{Success: put, Failure: put}
	for name, c := range map[string]struct {
		user *pb.TxnRequest
		slot record
		want Found
	}{
		"a new slot":                             {single, record{0, markNew}, Found{State: Pending}},
		"the write before":                       {single, record{6, markThen}, Found{State: Pending, Succeeded: true}},
		"the other branch of the write before":   {single, record{6, markElse}, Found{State: Pending}},
		"applied":                                {single, record{7, markThen}, Found{State: Applied, Succeeded: true}},
		"applied, first branch":                  {branching, record{7, markThen}, Found{State: Applied, Succeeded: true}},
		"applied, other branch":                  {branching, record{7, markElse}, Found{State: Applied}},
		"another branch than the write has":      {single, record{7, markElse}, Found{State: Lost}},
		"sealed":                                 {single, record{7, markSealed}, Found{State: Sealed}},
		"a later write":                          {single, record{8, markThen}, Found{State: Lost, Succeeded: true}},
		"the seal of a write that was abandoned": {single, record{6, markSealed}, Found{State: Pending}},
	} {
		w := &Write{Txn: c.user, Slot: []byte("slot"), Seq: 7}
		got := w.Found([]*mvccpb.KeyValue{{Key: w.Slot, Value: c.slot.bytes()}})
		if got.State != c.want.State || got.Succeeded != c.want.Succeeded {
			t.Errorf("%s: found %+v, want %+v", name, got, c.want)
		}
	}
}
