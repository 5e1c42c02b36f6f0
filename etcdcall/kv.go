package etcdcall

import (
	"bytes"
	"context"
	"sync/atomic"

	"github.com/reprise-go/reprise/etcdcall/etcdstub"
	"github.com/reprise-go/reprise/etcdcall/internal/scan"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// kv is the clientv3.KV of this package: clientv3's own, which builds the
// requests, over a kvStub, which makes the calls. What the stub returns comes
// up past clientv3 in a parcel.
type kv struct {
	built     clientv3.KV
	close     func()      // nil if there is nothing to close
	noStreams atomic.Bool // a server without RangeStream was met
}

func newKV(p *policy, conn grpc.ClientConnInterface) *kv {
	stub := newKVStub(p, conn)
	k := &kv{}
	if p.once.enabled {
		once := newOnceWriter(p, stub.remote, pb.NewLeaseClient(conn), stub.writer)
		stub.writer, k.close = once, once.close
	}
	k.built = clientv3.NewKVFromKVClient(stub, p.cli)
	return k
}

// Put implements clientv3.KV.
func (k *kv) Put(ctx context.Context, key, val string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	resp, err := k.built.Put(ctx, key, val, opts...)
	return resp, unpack(err)
}

// Get implements clientv3.KV.
func (k *kv) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	resp, err := k.built.Get(ctx, key, opts...)
	return resp, unpack(err)
}

// GetStream implements clientv3.KV. It is retried like a Get, and goes on after
// the last key that came when a stream breaks: the chunks are those of one
// revision, each key once, in order, whatever happens on the way. It ends early
// if that revision is compacted meanwhile. To know the revision, unless the call
// names one, the first chunk is asked for by itself, which takes a round trip.
// The errors in the chunks are those of clientv3. As with clientv3, read the
// channel to its end.
func (k *kv) GetStream(ctx context.Context, key string, opts ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	chunks, err := k.built.GetStream(ctx, key, opts...)
	return chunks, unpack(err)
}

// Delete implements clientv3.KV.
func (k *kv) Delete(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.DeleteResponse, error) {
	resp, err := k.built.Delete(ctx, key, opts...)
	return resp, unpack(err)
}

// Compact implements clientv3.KV. It may be sent twice. When an earlier attempt
// of the same call turns out to have done the work, the header of the response
// is empty.
func (k *kv) Compact(ctx context.Context, rev int64, opts ...clientv3.CompactOption) (*clientv3.CompactResponse, error) {
	resp, err := k.built.Compact(ctx, rev, opts...)
	return resp, unpack(err)
}

// Do implements clientv3.KV.
func (k *kv) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	resp, err := k.built.Do(ctx, op)
	return resp, unpack(err)
}

// Txn implements clientv3.KV.
func (k *kv) Txn(ctx context.Context) clientv3.Txn {
	t := &txn{Context: ctx}
	t.built = k.built.Txn(t)
	return t
}

// txn is clientv3's transaction, whose error it unpacks. It keeps the comparisons
// itself, since clientv3's makes copies by reflection, which took a quarter of what a
// transaction costs the client. They come to the stub with the context, which is the
// txn.
type txn struct {
	context.Context // of the call
	built           clientv3.Txn
	compare         []*pb.Compare
}

// If implements clientv3.Txn.
func (t *txn) If(cs ...clientv3.Cmp) clientv3.Txn {
	t.built.If()
	t.compare = make([]*pb.Compare, len(cs))
	for i := range cs {
		t.compare[i] = copied(cs[i].GetCompare())
	}
	return t
}

// copied returns a copy of a comparison, which the caller may change or use again.
func copied(c *pb.Compare) *pb.Compare {
	d := &pb.Compare{Result: c.Result, Target: c.Target, Key: bytes.Clone(c.Key), RangeEnd: bytes.Clone(c.RangeEnd)}
	switch u := c.TargetUnion.(type) {
	case *pb.Compare_Version:
		d.TargetUnion = &pb.Compare_Version{Version: u.Version}
	case *pb.Compare_CreateRevision:
		d.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: u.CreateRevision}
	case *pb.Compare_ModRevision:
		d.TargetUnion = &pb.Compare_ModRevision{ModRevision: u.ModRevision}
	case *pb.Compare_Value:
		d.TargetUnion = &pb.Compare_Value{Value: bytes.Clone(u.Value)}
	case *pb.Compare_Lease:
		d.TargetUnion = &pb.Compare_Lease{Lease: u.Lease}
	}
	return d
}

// Then implements clientv3.Txn.
func (t *txn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.built.Then(ops...)
	return t
}

// Else implements clientv3.Txn.
func (t *txn) Else(ops ...clientv3.Op) clientv3.Txn {
	t.built.Else(ops...)
	return t
}

// Commit implements clientv3.Txn.
func (t *txn) Commit() (*clientv3.TxnResponse, error) {
	resp, err := t.built.Commit()
	return resp, unpack(err)
}

// kvStub makes the calls of KV under their policies. Its errors are parcels.
type kvStub struct {
	remote  pb.KVClient
	fetch   readCalls[pb.RangeRequest, pb.RangeResponse]
	look    readCalls[pb.TxnRequest, pb.TxnResponse] // a Txn that only reads
	scans   service[*etcdstub.KVClient]
	compact bound[pb.CompactionRequest, pb.CompactionResponse]
	writer  writer
}

// readCalls are one RPC that reads, linearizable and serializable. Any member
// answers the latter, whether it knows of a leader or not.
type readCalls[Req, Resp any] struct {
	linearizable, serializable bound[Req, Resp]
}

func (r *readCalls[Req, Resp]) do(ctx context.Context, req *Req, serializable bool) (*Resp, error) {
	if serializable {
		return r.serializable.do(ctx, req)
	}
	return r.linearizable.do(ctx, req)
}

func newKVStub(p *policy, conn grpc.ClientConnInterface) *kvStub {
	led, local := newKVService(p, conn, kind{txn: read}), newKVService(p, conn, kind{txn: read, local: true})
	return &kvStub{
		remote: pb.NewKVClient(conn),
		fetch: readCalls[pb.RangeRequest, pb.RangeResponse]{
			linearizable: bindMethod(&led, pb.KV_Range_FullMethodName, (*etcdstub.KVClient).Range),
			serializable: bindMethod(&local, pb.KV_Range_FullMethodName, (*etcdstub.KVClient).Range),
		},
		look: readCalls[pb.TxnRequest, pb.TxnResponse]{
			linearizable: bindAs(&led, read, pb.KV_Txn_FullMethodName, (*etcdstub.KVClient).Txn),
			serializable: bindAs(&local, read, pb.KV_Txn_FullMethodName, (*etcdstub.KVClient).Txn),
		},
		scans:   led,
		compact: bindMethod(&led, pb.KV_Compact_FullMethodName, (*etcdstub.KVClient).Compact),
		writer:  newBlindWriter(p, conn),
	}
}

// Range implements pb.KVClient.
func (s *kvStub) Range(ctx context.Context, req *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	resp, err := s.fetch.do(ctx, req, req.GetSerializable())
	return resp, pack(err)
}

// RangeStream implements pb.KVClient; see package scan.
func (s *kvStub) RangeStream(ctx context.Context, req *pb.RangeRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[pb.RangeStreamResponse], error) {
	client, p := s.scans.endless, s.scans.policy
	if ctx != nil {
		if _, ok := ctx.Deadline(); ok {
			client = s.scans.short
		}
		if !req.GetSerializable() {
			ctx = p.led(ctx)
		}
	}
	opened, err := scan.New(ctx, req, func(ctx context.Context, req *pb.RangeRequest) (grpc.ServerStreamingClient[pb.RangeStreamResponse], error) {
		return client.RangeStream(ctx, req)
	}, p.rereads)
	if err != nil {
		return nil, pack(readError(err))
	}
	return opened, nil
}

// Put implements pb.KVClient.
func (s *kvStub) Put(ctx context.Context, req *pb.PutRequest, _ ...grpc.CallOption) (*pb.PutResponse, error) {
	resp, err := s.writer.put(ctx, req)
	return resp, pack(err)
}

// DeleteRange implements pb.KVClient.
func (s *kvStub) DeleteRange(ctx context.Context, req *pb.DeleteRangeRequest, _ ...grpc.CallOption) (*pb.DeleteRangeResponse, error) {
	resp, err := s.writer.deleteRange(ctx, req)
	return resp, pack(err)
}

// Txn implements pb.KVClient.
func (s *kvStub) Txn(ctx context.Context, req *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	if t, ok := ctx.(*txn); ok {
		ctx, req.Compare = t.Context, t.compare
	}
	effect := effectOf(req)
	if effect == writes {
		resp, err := s.writer.txn(ctx, req)
		return resp, pack(err)
	}
	resp, err := s.look.do(ctx, req, effect == readsSerializable)
	return resp, pack(err)
}

// Compact implements pb.KVClient. The answer that the revision is compacted
// already, after an attempt that may have done it, is a success.
func (s *kvStub) Compact(ctx context.Context, req *pb.CompactionRequest, _ ...grpc.CallOption) (*pb.CompactionResponse, error) {
	done := doneOn(rpctypes.ErrCompacted, &pb.CompactionResponse{Header: &pb.ResponseHeader{}})
	resp, err := s.compact.twice(ctx, req, done)
	return resp, pack(err)
}
