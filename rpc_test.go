package reprise

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
)

// server is a real gRPC server whose handlers a test writes. It numbers the
// calls that reach it, of whatever method, and remembers what they brought.
type server struct {
	testpb.UnimplementedTestServiceServer

	unary  func(ctx context.Context, call int, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error)
	stream func(call int, out grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error
	duplex func(call int, io grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error

	mu    sync.Mutex
	heads []metadata.MD
	began []time.Duration
	start time.Time
}

func (s *server) enter(ctx context.Context) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.start.IsZero() {
		s.start = time.Now()
	}
	md, _ := metadata.FromIncomingContext(ctx)
	s.heads = append(s.heads, md)
	s.began = append(s.began, time.Since(s.start))
	return len(s.heads)
}

// times returns when the calls reached the server, counted from the first.
func (s *server) times() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.began)
}

// calls returns how many calls have reached the server.
func (s *server) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.heads)
}

// previous returns the attempt headers of all calls.
func (s *server) previous() (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, md := range s.heads {
		v := md.Get(attemptsHeader)
		if len(v) == 0 {
			v = []string{"-"}
		}
		list = append(list, v...)
	}
	return list
}

func (s *server) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return s.unary(ctx, s.enter(ctx), in)
}

func (s *server) StreamingOutputCall(
	_ *testpb.StreamingOutputCallRequest, out grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse],
) error {
	return s.stream(s.enter(out.Context()), out)
}

func (s *server) FullDuplexCall(io grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	return s.duplex(s.enter(io.Context()), io)
}

// serve starts s and returns a connection to it, on which gRPC itself does not
// retry. Both end before the test.
func serve(t testing.TB, s *server, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	return serveRetrying(t, s, append(opts, grpc.WithDisableRetry())...)
}

// serveRetrying is serve without a word on gRPC's own retry.
func serveRetrying(t testing.TB, s *server, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	lis := bufconn.Listen(1 << 16)
	srv := grpc.NewServer()
	testpb.RegisterTestServiceServer(srv, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(lis)
	}()
	conn, err := grpc.NewClient("passthrough:///test", append(opts,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		srv.Stop()
		<-done
	})
	return conn
}

func bindUnary(conn *grpc.ClientConn, opts ...CallOption) *Unary[testpb.SimpleRequest, testpb.SimpleResponse] {
	return NewUnary(testpb.NewTestServiceClient(conn).UnaryCall, opts...)
}

// named is the answer of call n.
func named(n int) *testpb.SimpleResponse {
	return &testpb.SimpleResponse{Username: strconv.Itoa(n)}
}

func trailer(ctx context.Context, kv ...string) { _ = grpc.SetTrailer(ctx, metadata.Pairs(kv...)) }
