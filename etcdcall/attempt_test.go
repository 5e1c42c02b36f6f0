package etcdcall

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// An interceptor above that sends one attempt several times: what is known is
// known of all of them.
func TestOfWhatAnInterceptorSendsAgainTheFirstDoubtStays(t *testing.T) {
	t.Parallel()
	type part struct {
		sent bool
		err  error
	}
	lost := status.Error(codes.Unavailable, "lost")
	var (
		unsent   = part{false, lost}
		unknown  = part{true, lost}
		refused  = part{true, rpctypes.ErrGRPCNoLeader}
		answered = part{true, nil}
	)
	for name, c := range map[string]struct {
		parts []part
		want  Outcome
	}{
		"not sent, not sent":          {parts: []part{unsent, unsent}, want: NotApplied},
		"not sent, refused":           {parts: []part{unsent, refused}, want: NotApplied},
		"refused, refused":            {parts: []part{refused, refused}, want: NotApplied},
		"refused, not sent":           {parts: []part{refused, unsent}, want: Unknown}, // which part was sent is not kept
		"unknown, not sent":           {parts: []part{unknown, unsent}, want: Unknown},
		"not sent, unknown":           {parts: []part{unsent, unknown}, want: Unknown},
		"unknown, refused":            {parts: []part{unknown, refused}, want: Unknown},
		"unknown, not sent, refused":  {parts: []part{unknown, unsent, refused}, want: Unknown},
		"answered, not sent":          {parts: []part{answered, unsent}, want: Unknown},
		"answered, refused":           {parts: []part{answered, refused}, want: Unknown},
		"answered, refused, not sent": {parts: []part{answered, refused, unsent}, want: Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := attemptNeeds{}.begin(t.Context())
			var last error
			for _, p := range c.parts {
				last = recordAttempt(a, pb.KV_Put_FullMethodName, &pb.PutRequest{}, &pb.PutResponse{}, nil,
					func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
						if p.sent {
							note(opts)
						}
						return p.err
					})
			}
			err := a.end(last)
			if got := OutcomeOf(err); got != c.want {
				t.Errorf("the outcome is %v, want %v: %v", got, c.want, err)
			}
			if want := c.parts[len(c.parts)-1].err.Error(); !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
			if c.want == Unknown && classify(err).write == retry {
				t.Errorf("a write would be sent again after: %v", err)
			}
		})
	}
}

// What succeeded, but not for an interceptor above, is not known as refused.
func TestAnAnswerThatAnInterceptorRejectsIsNoRefusal(t *testing.T) {
	t.Parallel()
	a := attemptNeeds{}.begin(t.Context())
	for _, sent := range []error{status.Error(codes.Unavailable, "lost"), nil} {
		_ = recordAttempt(a, pb.KV_Put_FullMethodName, &pb.PutRequest{}, &pb.PutResponse{}, nil,
			func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return sent })
	}
	rejected := status.Error(codes.Internal, "rejected")
	if err := a.end(rejected); !errors.Is(err, rejected) || OutcomeOf(err) != Unknown {
		t.Errorf("outcome %v of %v", OutcomeOf(err), err)
	}
}

// note notes a server as gRPC does.
func note(opts []grpc.CallOption) {
	for _, opt := range opts {
		if p, ok := opt.(grpc.PeerCallOption); ok {
			p.PeerAddr.Addr = &net.TCPAddr{}
		}
	}
}

// The same through a client: what the server has applied is not told as refused,
// and no blind write is made again.
func TestAWriteThatSucceededButForAnInterceptorMayHaveBeenApplied(t *testing.T) {
	t.Parallel()
	for name, rejected := range map[string]error{
		"no status":   errors.New("rejected"),
		"a status":    status.Error(codes.Internal, "rejected"),
		"a refusal":   rpctypes.ErrGRPCNoLeader,
		"a transport": status.Error(codes.Unavailable, "rejected"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startScripted(t, func(_ context.Context, method string, _ int, _ any) (any, error) { return success(method), nil })
			reject := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				if err := invoker(ctx, method, req, reply, cc, opts...); err != nil {
					return err
				}
				return rejected
			}
			cli := newClient(t, clientv3.Config{Endpoints: []string{s.addr}, DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(reject)}})
			_, err := cli.Put(within5s(t), "key", "value")
			if OutcomeOf(err) != Unknown || !errors.Is(err, rejected) {
				t.Errorf("the outcome is %v: %v", OutcomeOf(err), err)
			}
			if n := s.count(pb.KV_Put_FullMethodName); n != 1 {
				t.Errorf("the write was sent %d times", n)
			}
		})
	}
}
