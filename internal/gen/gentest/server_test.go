package gentest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/reprise-go/reprise/internal/gen/gentest"
)

// A server answers as its script says: each attempt takes the next error, and
// succeeds when there is none left. It notes what each attempt looked like.
type server struct {
	gentest.UnimplementedKindsServer

	mu       sync.Mutex
	script   []error
	attempts []attempt
}

type attempt struct {
	previous string // grpc-previous-rpc-attempts
	deadline bool
}

func (s *server) next(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, bounded := ctx.Deadline()
	a := attempt{deadline: bounded}
	if md, _ := metadata.FromIncomingContext(ctx); len(md["grpc-previous-rpc-attempts"]) > 0 {
		a.previous = md["grpc-previous-rpc-attempts"][0]
	}
	if len(s.attempts) < 100 { // benchmarks make many more
		s.attempts = append(s.attempts, a)
	}
	if len(s.script) == 0 {
		return nil
	}
	err := s.script[0]
	s.script = s.script[1:]
	return err
}

// took returns the attempts since the last call of play.
func (s *server) took() []attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts
}

// play sets the script.
func (s *server) play(errs ...error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script, s.attempts = errs, nil
}

func response(r *gentest.Request) *gentest.Response {
	return &gentest.Response{Value: new(r.GetValue() + 1)}
}

func (s *server) Get(ctx context.Context, r *gentest.Request) (*gentest.Response, error) {
	return response(r), s.next(ctx)
}

func (s *server) Set(ctx context.Context, r *gentest.Request) (*gentest.Response, error) {
	return response(r), s.next(ctx)
}

func (s *server) Add(ctx context.Context, r *gentest.Request) (*gentest.Response, error) {
	return response(r), s.next(ctx)
}

func (s *server) Forget(ctx context.Context, _ *gentest.Request) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.next(ctx)
}

// List sends three messages, the script's error before the first of them.
func (s *server) List(r *gentest.Request, stream grpc.ServerStreamingServer[gentest.Response]) error {
	if err := s.next(stream.Context()); err != nil {
		return err
	}
	for i := range int64(3) {
		if err := stream.Send(&gentest.Response{Value: new(r.GetValue() + i)}); err != nil {
			return err
		}
	}
	return nil
}

// Upload answers with the sum of what it got.
func (s *server) Upload(stream grpc.ClientStreamingServer[gentest.Request, gentest.Response]) error {
	if err := s.next(stream.Context()); err != nil {
		return err
	}
	var sum int64
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&gentest.Response{Value: new(sum)})
		}
		if err != nil {
			return err
		}
		sum += r.GetValue()
	}
}

// Chat answers each message.
func (s *server) Chat(stream grpc.BidiStreamingServer[gentest.Request, gentest.Response]) error {
	if err := s.next(stream.Context()); err != nil {
		return err
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(response(r)); err != nil {
			return err
		}
	}
}

// start returns a stub of s.
func (s *server) start(t testing.TB) gentest.KindsClient {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	g := grpc.NewServer()
	gentest.RegisterKindsServer(g, s)
	go g.Serve(listener)
	t.Cleanup(g.Stop)
	conn, err := grpc.NewClient("passthrough:///kinds",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return gentest.NewKindsClient(conn)
}

func unavailable(n int) []error {
	var all []error
	for i := range n {
		all = append(all, status.Error(codes.Unavailable, "failure "+strconv.Itoa(i+1)))
	}
	return all
}
