package etcdcall

import (
	"context"

	"github.com/reprise-go/reprise/etcdcall/etcdstub"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// writer makes the calls of KV that change the store. Its errors are final:
// they are what the caller gets.
type writer interface {
	put(ctx context.Context, req *pb.PutRequest) (*pb.PutResponse, error)
	deleteRange(ctx context.Context, req *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error)
	txn(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error)
}

// blindWriter sends a write again only if it certainly was not applied, or if
// it is a transaction that cannot be applied twice.
type blindWriter struct {
	putCall    bound[pb.PutRequest, pb.PutResponse]
	deleteCall bound[pb.DeleteRangeRequest, pb.DeleteRangeResponse]
	txnCall    bound[pb.TxnRequest, pb.TxnResponse]
	guarded    bound[pb.TxnRequest, pb.TxnResponse]
}

func newBlindWriter(p *policy, conn grpc.ClientConnInterface) *blindWriter {
	blind, guarded := newKVService(p, conn, kind{txn: blindWrite}), newKVService(p, conn, kind{txn: guardedWrite})
	return &blindWriter{
		putCall:    bindMethod(&blind, pb.KV_Put_FullMethodName, (*etcdstub.KVClient).Put),
		deleteCall: bindMethod(&blind, pb.KV_DeleteRange_FullMethodName, (*etcdstub.KVClient).DeleteRange),
		txnCall:    bindAs(&blind, blindWrite, pb.KV_Txn_FullMethodName, (*etcdstub.KVClient).Txn),
		guarded:    bindAs(&guarded, guardedWrite, pb.KV_Txn_FullMethodName, (*etcdstub.KVClient).Txn),
	}
}

func (w *blindWriter) put(ctx context.Context, req *pb.PutRequest) (*pb.PutResponse, error) {
	return w.putCall.do(ctx, req)
}

func (w *blindWriter) deleteRange(ctx context.Context, req *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	return w.deleteCall.do(ctx, req)
}

func (w *blindWriter) txn(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	if isGuarded(req) {
		return guardedTxn(ctx, &w.guarded, req)
	}
	return w.txnCall.do(ctx, req)
}
