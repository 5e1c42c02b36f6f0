package etcdcall

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// misshaper is a server whose answers to guarded writes have another shape than
// the requests.
type misshaper struct {
	*store

	bend func(resp *pb.TxnResponse)
}

func (m misshaper) Txn(ctx context.Context, req *pb.TxnRequest, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
	resp, err := m.store.Txn(ctx, req, opts...)
	if err == nil && len(req.GetSuccess()) == 2 {
		m.bend(resp)
	}
	return resp, err
}

func TestAnAnswerOfAnotherShapeIsALostResponse(t *testing.T) {
	t.Parallel()
	deletion := &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{}}}
	for name, bend := range map[string]func(*pb.TxnResponse){
		"nothing":      func(resp *pb.TxnResponse) { resp.Responses = nil },
		"no record":    func(resp *pb.TxnResponse) { resp.Responses = resp.GetResponses()[:1] },
		"one too many": func(resp *pb.TxnResponse) { resp.Responses = append(resp.GetResponses(), deletion) },
		"another type": func(resp *pb.TxnResponse) { resp.Responses[0] = deletion },
		"an empty one": func(resp *pb.TxnResponse) { resp.Responses[0] = &pb.ResponseOp{} },
		"a nil one":    func(resp *pb.TxnResponse) { resp.Responses[0] = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				set := newSettings([]Option{WithExactlyOnce("once/")})
				p := &policy{settings: set, cli: &clientv3.Client{}}
				w := newOnceWriter(p, misshaper{s, bend}, s, newBlindWriter(p, storeConn{s: s}))
				defer w.close()
				_, err := put(t.Context(), w, "k")
				lost, ok := errors.AsType[*ResponseLostError](err)
				if !ok || !errors.Is(err, errMisshapen) || OutcomeOf(err) != Applied || lost.Revision != s.get("k").GetModRevision() {
					t.Errorf("got %T: %v, the store has %v", err, err, s.get("k"))
				}
			})
		})
	}
}
