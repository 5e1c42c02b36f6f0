package etcdcall

import (
	"context"
	"net"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// An interceptor above that makes two attempts of one: what is known is known of
// both.
func TestWhatAnInterceptorRepeatsWasSentIfAnyPartWas(t *testing.T) {
	t.Parallel()
	lost := status.Error(codes.Unavailable, "lost")
	for name, c := range map[string]struct {
		sent    []bool
		failing []bool
		want    Outcome
	}{
		"never sent":                       {sent: []bool{false, false}, failing: []bool{true, true}, want: NotApplied},
		"sent, then not":                   {sent: []bool{true, false}, failing: []bool{true, true}, want: Unknown},
		"not sent, then sent":              {sent: []bool{false, true}, failing: []bool{true, true}, want: Unknown},
		"answered, then not sent":          {sent: []bool{true, false}, failing: []bool{false, true}, want: Unknown},
		"not sent, then answered, refused": {sent: []bool{false, true}, failing: []bool{true, false}, want: Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := attemptNeeds{}.begin(t.Context())
			for i, sent := range c.sent {
				_ = recordAttempt(a, pb.KV_Put_FullMethodName, &pb.PutRequest{}, &pb.PutResponse{}, nil,
					func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
						if sent {
							note(opts)
						}
						if c.failing[i] {
							return lost
						}
						return nil
					})
			}
			if got := OutcomeOf(a.end(lost)); got != c.want {
				t.Errorf("the outcome is %v, want %v", got, c.want)
			}
		})
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
