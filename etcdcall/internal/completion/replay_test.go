package completion

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/reprise-go/reprise/etcdcall/internal/keyrange"
)

// slot is the key of a slot before all keys of writers.
var slot = []byte("0/slot")

// writer makes transactions at random, on the keys a to d.
type writer struct {
	*rand.Rand
	store   *store
	records bool // ranges are read from before the records on
}

func (w writer) key() []byte { return []byte{'a' + byte(w.IntN(4))} }

func (w writer) even() bool { return w.IntN(2) == 0 }

// end is that of a single key, of more, or none.
func (w writer) end() []byte {
	return [][]byte{nil, nil, []byte("c"), []byte("e"), []byte(keyrange.NoEnd)}[w.IntN(5)]
}

func (w writer) txn(depth int) *pb.TxnRequest {
	req := &pb.TxnRequest{Success: w.ops(depth)}
	if w.even() {
		req.Failure = w.ops(depth)
		req.Compare = []*pb.Compare{{Key: w.key(), Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: w.Int64N(2)}}}
	}
	return req
}

func (w writer) ops(depth int) (ops []*pb.RequestOp) {
	for range w.IntN(4) {
		ops = append(ops, w.op(depth))
	}
	return ops
}

func (w writer) op(depth int) *pb.RequestOp {
	switch n := w.IntN(8); {
	case n < 3:
		return putOp(&pb.PutRequest{Key: w.key(), Value: []byte{byte(n)}, PrevKv: w.even(), IgnoreValue: w.IntN(4) == 0, IgnoreLease: w.IntN(4) == 0})
	case n < 4:
		return deleteOp(&pb.DeleteRangeRequest{Key: w.key(), RangeEnd: w.end(), PrevKv: w.even()})
	case n < 6 || depth == 0:
		req := &pb.RangeRequest{Key: w.key(), RangeEnd: w.end(), KeysOnly: w.IntN(4) == 0, CountOnly: w.IntN(4) == 0}
		if w.records {
			req.Key = slot[:1]
		}
		if w.IntN(4) == 0 {
			req.Revision = 1 + w.Int64N(w.store.revision)
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: req}}
	default:
		return txnOp(w.txn(depth - 1))
	}
}

// plain is a response without what says at which revision it was given: a record
// grows the revision where the transaction alone does not.
func plain(resp *pb.TxnResponse) *pb.TxnResponse {
	resp = proto.CloneOf(resp)
	resp.Header = nil
	for _, op := range resp.GetResponses() {
		switch r := op.GetResponse().(type) {
		case *pb.ResponseOp_ResponsePut:
			r.ResponsePut.Header = nil
		case *pb.ResponseOp_ResponseDeleteRange:
			r.ResponseDeleteRange.Header = nil
		case *pb.ResponseOp_ResponseRange:
			r.ResponseRange.Header = nil
		case *pb.ResponseOp_ResponseTxn:
			r.ResponseTxn = plain(r.ResponseTxn)
		}
	}
	return resp
}

// TestALostResponseIsTheOneThatWasGiven, which is that of the transaction alone,
// unless that reads records.
func TestALostResponseIsTheOneThatWasGiven(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		s := newStore()
		s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{NewSlot(slot, 7)}})
		random := writer{rand.New(rand.NewPCG(seed, 1)), s, seed%3 == 0}
		for seq := uint64(1); seq <= 10; seq++ {
			w := &Write{Txn: random.txn(2), Slot: slot, Lease: 7, Seq: seq}
			name := fmt.Sprintf("seed %d, write %d: %v", seed, seq, w.Txn)
			sent := w.Request()
			alone := s.clone().txn(w.Txn)
			given, ok := w.Response(sent, s.txn(sent))
			if !ok || !random.records && !proto.Equal(plain(given), plain(alone)) {
				t.Fatalf("%s:\ngot %v\nwant %v", name, given, alone)
			}
			if s.txn(sent).GetSucceeded() {
				t.Fatalf("%s: applied twice", name)
			}
			looked, _ := s.fetch(t.Context(), w.Look())
			found := w.Found(looked.GetKvs())
			if found.State != Applied || found.Revision != s.revision || found.Succeeded != alone.GetSucceeded() {
				t.Fatalf("%s: found %+v at revision %d", name, found, s.revision)
			}
			again, err := w.Replay(t.Context(), found, s.fetch)
			if err != nil {
				t.Fatal(err)
			}
			again.Header = given.GetHeader()
			if !proto.Equal(again, given) {
				t.Fatalf("%s:\nreplayed %v\ngiven    %v", name, again, given)
			}
		}
	}
}

func TestAWriteThatIsSealedIsNeverApplied(t *testing.T) {
	t.Parallel()
	s := newStore()
	w := &Write{Txn: &pb.TxnRequest{Success: []*pb.RequestOp{putOp(&pb.PutRequest{Key: []byte("k")})}}, Slot: slot, Seq: 1}
	look := func() Found {
		looked, _ := s.fetch(t.Context(), w.Look())
		return w.Found(looked.GetKvs())
	}
	if s.txn(w.Request()).GetSucceeded() || look().State != Lost {
		t.Error("applied without a slot")
	}
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{NewSlot(w.Slot, 7)}})
	if found := look(); found.State != Pending {
		t.Errorf("before the seal: %+v", found)
	}
	if !s.txn(w.Seal()).GetSucceeded() || s.txn(w.Request()).GetSucceeded() || look().State != Sealed {
		t.Errorf("after the seal: %+v", look())
	}
}

func TestAResponseIsLostWithTheStateBeforeIt(t *testing.T) {
	t.Parallel()
	compacted := errors.New("compacted")
	read := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k")}}}
	before := putOp(&pb.PutRequest{Key: []byte("k"), PrevKv: true})
	deletion := deleteOp(&pb.DeleteRangeRequest{Key: []byte("k")})
	inner := txnOp(&pb.TxnRequest{Failure: []*pb.RequestOp{read}})
	for _, op := range []*pb.RequestOp{read, before, deletion, inner} {
		w := &Write{Txn: &pb.TxnRequest{Success: []*pb.RequestOp{op}}, Slot: slot, Seq: 1}
		_, err := w.Replay(t.Context(), Found{State: Applied, Revision: 5, Succeeded: true}, func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
			return nil, compacted
		})
		if !errors.Is(err, compacted) {
			t.Errorf("%v: got %v", op, err)
		}
	}
}
