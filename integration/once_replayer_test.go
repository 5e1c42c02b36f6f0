package integration_test

import (
	"context"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

// replayer keeps every transaction that a client sends and can send them all
// once more, as copies that were delayed on the way.
type replayer struct {
	mu   sync.Mutex
	kept []*etcdserverpb.TxnRequest
	conn *grpc.ClientConn
	send grpc.UnaryInvoker
}

func (r *replayer) option() grpc.DialOption {
	return grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if txn, ok := req.(*etcdserverpb.TxnRequest); ok {
			r.mu.Lock()
			r.kept, r.conn, r.send = append(r.kept, proto.CloneOf(txn)), cc, invoke
			r.mu.Unlock()
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	})
}

func (r *replayer) replayAll(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) == 0 {
		t.Fatal("no transaction was kept")
	}
	for _, txn := range r.kept {
		// Whether it is refused shows in the store.
		_ = r.send(soon(t), etcdtest.MethodTxn, txn, &etcdserverpb.TxnResponse{}, r.conn)
	}
}

func leaseOf(id int64) *etcdserverpb.LeaseGrantRequest {
	return &etcdserverpb.LeaseGrantRequest{ID: id, TTL: 60}
}
