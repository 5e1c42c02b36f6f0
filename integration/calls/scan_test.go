package calls_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

// streamBreaker holds streams of keys before their second chunk, waits until the
// client has what was sent, and has them broken.
type streamBreaker struct {
	mu    sync.Mutex
	moved *sync.Cond
	sent  int // keys
	got   int
	left  int // how many streams are to be broken yet
	cut   func()
}

func newStreamBreaker(times int) *streamBreaker {
	b := &streamBreaker{left: times}
	b.moved = sync.NewCond(&b.mu)
	return b
}

func (b *streamBreaker) option() etcdtest.Option {
	return etcdtest.WithServerOptions(grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if info.FullMethod != pb.KV_RangeStream_FullMethodName {
				return handler(srv, ss)
			}
			return handler(srv, &heldStream{ServerStream: ss, breaker: b})
		}))
}

// received notes that the client has n more keys.
func (b *streamBreaker) received(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got += n
	b.moved.Broadcast()
}

// hold reports whether the stream was broken.
func (b *streamBreaker) hold() bool {
	b.mu.Lock()
	if b.left == 0 {
		b.mu.Unlock()
		return false
	}
	b.left--
	for b.got < b.sent {
		b.moved.Wait()
	}
	b.mu.Unlock()
	b.cut()
	return true
}

type heldStream struct {
	grpc.ServerStream
	breaker *streamBreaker
	chunks  int
}

func (s *heldStream) SendMsg(m any) error {
	if s.chunks++; s.chunks == 2 && s.breaker.hold() {
		<-s.Context().Done()
		return s.Context().Err()
	}
	s.breaker.mu.Lock()
	s.breaker.sent += len(m.(*pb.RangeStreamResponse).GetRangeResponse().GetKvs())
	s.breaker.mu.Unlock()
	return s.ServerStream.SendMsg(m)
}

// streamed reads all chunks, as one range.
func streamed(chunks clientv3.GetStreamChan, b *streamBreaker) (*pb.RangeResponse, error) {
	all := &pb.RangeResponse{}
	var err error
	for chunk := range chunks {
		if chunk.Err() != nil {
			err = chunk.Err()
			continue
		}
		proto.Merge(all, chunk.RangeResponse)
		b.received(len(chunk.RangeResponse.GetKvs()))
	}
	return all, err
}

const streamedKeys = 200

func TestAStreamThatBreaksGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	const breaks = 3
	all := []clientv3.OpOption{clientv3.WithPrefix()}
	for name, opts := range map[string][]clientv3.OpOption{
		"at the revision of now": all,
		"serializable":           append(all, clientv3.WithSerializable()),
		"keys only":              append(all, clientv3.WithKeysOnly()),
		"limited":                append(all, clientv3.WithLimit(77)),
		"at a revision":          append(all, clientv3.WithRev(1+150)), // after 150 of the puts
		"from a key on":          {clientv3.WithFromKey()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkBroken(t, breaks, true, opts)
		})
	}
	t.Run("clientv3 alone fails", func(t *testing.T) {
		t.Parallel()
		checkBroken(t, 1, false, all)
	})
}

// checkBroken compares what is streamed, while the stream is broken and the keys
// are changed under it, with a range of the revision at which it began.
func checkBroken(t *testing.T, times int, ours bool, opts []clientv3.OpOption) {
	t.Helper()
	b := newStreamBreaker(times)
	c := etcdtest.New(t, b.option())
	admin := truth(t, c)
	for i := range streamedKeys {
		must(t, second(admin.Put(soon(t), fmt.Sprintf("k%03d", i), "v")))
	}
	want, err := admin.Get(soon(t), "k", opts...)
	must(t, err)
	b.cut = func() {
		ctx := context.WithoutCancel(t.Context())
		for _, err := range []error{
			second(admin.Put(ctx, "k000", "again")),
			second(admin.Put(ctx, "k199+", "new")),
			second(admin.Put(ctx, "k150", "again")),
			second(admin.Delete(ctx, fmt.Sprintf("k%03d", 100+b.left))),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		c.Member(0).ClientLink().Reset()
	}
	cli := c.Client(t)
	if ours {
		cli = client(t, c.Config())
	}
	must(t, second(cli.Get(soon(t), "k")))
	chunks, err := cli.GetStream(soon(t), "k", opts...)
	must(t, err)
	got, err := streamed(chunks, b)
	if !ours {
		if err == nil {
			t.Error("clientv3 alone was not hurt: the fault proves nothing")
		}
		return
	}
	must(t, err)
	if b.left != 0 {
		t.Fatalf("%d streams were not broken", b.left)
	}
	if !proto.Equal(&pb.RangeResponse{Kvs: got.GetKvs(), More: got.GetMore(), Count: got.GetCount()},
		&pb.RangeResponse{Kvs: want.Kvs, More: want.More, Count: want.Count}) {
		t.Errorf("streamed %d keys (more %v, count %d), the range has %d (more %v, count %d), or they differ",
			len(got.GetKvs()), got.GetMore(), got.GetCount(), len(want.Kvs), want.More, want.Count)
	}
	// For a revision that the call names, the header has that of the store.
	if pinned := len(want.Kvs) == 150; !pinned && got.GetHeader().GetRevision() != want.Header.Revision {
		t.Errorf("the header has revision %d, the keys are of %d", got.GetHeader().GetRevision(), want.Header.Revision)
	}
}

func TestAStreamWhoseRevisionIsCompactedSaysSo(t *testing.T) {
	t.Parallel()
	b := newStreamBreaker(1)
	c := etcdtest.New(t, b.option())
	admin := truth(t, c)
	for i := range streamedKeys {
		must(t, second(admin.Put(soon(t), fmt.Sprintf("k%03d", i), "v")))
	}
	b.cut = func() {
		ctx := context.WithoutCancel(t.Context())
		if err := second(admin.Put(ctx, "k", "v")); err != nil {
			t.Error(err)
		}
		if err := second(c.Compact(ctx, 0)); err != nil {
			t.Error(err)
		}
		c.Member(0).ClientLink().Reset()
	}
	cli := client(t, c.Config())
	must(t, second(cli.Get(soon(t), "k")))
	chunks, err := cli.GetStream(soon(t), "k", clientv3.WithPrefix())
	must(t, err)
	got, err := streamed(chunks, b)
	if !errors.Is(err, rpctypes.ErrCompacted) || len(got.GetKvs()) == 0 || len(got.GetKvs()) == streamedKeys {
		t.Errorf("%d keys, %v", len(got.GetKvs()), err)
	}
}
