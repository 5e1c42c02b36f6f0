package etcdcall

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/reprise-go/reprise"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// impatience is for calls that will not succeed.
const impatience = 60 * time.Millisecond

// fastBackoff keeps tests of many attempts short.
var fastBackoff = reprise.Backoff{Initial: time.Millisecond, Max: 2 * time.Millisecond}

// scripted is a gRPC server that speaks etcd's services and answers unary calls
// as answer says.
type scripted struct {
	addr   string
	server *grpc.Server

	mu     sync.Mutex
	answer func(ctx context.Context, method string, n int, req any) (any, error)
	calls  map[string]int
}

// startScripted starts a server; answer gets the number of the call among those
// of its method, 1 for the first.
func startScripted(t *testing.T, answer func(ctx context.Context, method string, n int, req any) (any, error)) *scripted {
	t.Helper()
	s := &scripted{answer: answer, calls: map[string]int{}}
	s.server = grpc.NewServer(grpc.UnaryInterceptor(s.intercept))
	pb.RegisterKVServer(s.server, pb.UnimplementedKVServer{})
	pb.RegisterLeaseServer(s.server, pb.UnimplementedLeaseServer{})
	pb.RegisterClusterServer(s.server, pb.UnimplementedClusterServer{})
	pb.RegisterAuthServer(s.server, pb.UnimplementedAuthServer{})
	pb.RegisterMaintenanceServer(s.server, pb.UnimplementedMaintenanceServer{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = listener.Addr().String()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.server.Serve(listener)
	}()
	t.Cleanup(func() {
		s.server.Stop()
		<-served
	})
	return s
}

func (s *scripted) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
	s.mu.Lock()
	s.calls[info.FullMethod]++
	n := s.calls[info.FullMethod]
	s.mu.Unlock()
	return s.answer(ctx, info.FullMethod, n, req)
}

// count is how often the server was called by method.
func (s *scripted) count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

// newClient returns a client of the given endpoints that is closed with the test.
func newClient(t *testing.T, cfg clientv3.Config, opts ...Option) *clientv3.Client {
	t.Helper()
	cli, err := New(cfg, append([]Option{WithBackoff(fastBackoff)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	return cli
}

func (s *scripted) client(t *testing.T, opts ...Option) *clientv3.Client {
	t.Helper()
	return newClient(t, clientv3.Config{Endpoints: []string{s.addr}}, opts...)
}

// within5s is the context of a call that is not expected to need it all.
func within5s(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// connected waits until a client is connected, so that what it is asked to send
// is sent at once.
func connected(t *testing.T, cli *clientv3.Client) *clientv3.Client {
	t.Helper()
	ctx, conn := within5s(t), cli.ActiveConnection()
	conn.Connect()
	for s := conn.GetState(); s != connectivity.Ready; s = conn.GetState() {
		if !conn.WaitForStateChange(ctx, s) {
			t.Fatalf("the connection is %v", s)
		}
	}
	return cli
}

// enough is a deadline before which a call of a connected client certainly has
// been sent.
const enough = 2 * time.Second

// success is the empty answer of a KV method.
func success(method string) any {
	header := &pb.ResponseHeader{Revision: 7}
	switch method {
	case pb.KV_Range_FullMethodName:
		return &pb.RangeResponse{Header: header}
	case pb.KV_Put_FullMethodName:
		return &pb.PutResponse{Header: header}
	case pb.KV_DeleteRange_FullMethodName:
		return &pb.DeleteRangeResponse{Header: header}
	case pb.KV_Txn_FullMethodName:
		return &pb.TxnResponse{Header: header, Succeeded: true}
	case pb.KV_Compact_FullMethodName:
		return &pb.CompactionResponse{Header: header}
	default:
		return nil
	}
}
