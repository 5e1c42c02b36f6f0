package etcdcall

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise/etcdcall/internal/patience"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
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
		for what, change := range changes {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				conn := connFunc(func(ctx context.Context, opts []grpc.CallOption) (last error) {
					for i, p := range c.parts {
						ctx, opts := change(i, ctx, opts)
						last = recordAttempt(ctx, pb.KV_Put_FullMethodName, &pb.PutRequest{}, &pb.PutResponse{}, nil,
							func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
								if p.sent {
									note(opts)
								}
								return p.err
							}, opts...)
					}
					return last
				})
				err := (&recordingConn{conn}).Invoke(t.Context(), pb.KV_Put_FullMethodName, nil, nil, grpc.StaticMethod(), new(attemptNeeds))
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
}

// changes are what an interceptor above may change in the part i of an attempt.
var changes = map[string]func(i int, ctx context.Context, opts []grpc.CallOption) (context.Context, []grpc.CallOption){
	"as it is": func(_ int, ctx context.Context, opts []grpc.CallOption) (context.Context, []grpc.CallOption) {
		return ctx, opts
	},
	"another context": func(_ int, ctx context.Context, opts []grpc.CallOption) (context.Context, []grpc.CallOption) {
		return wrapped(ctx), opts
	},
	"another context first": func(i int, ctx context.Context, opts []grpc.CallOption) (context.Context, []grpc.CallOption) {
		if i == 0 {
			ctx = wrapped(ctx)
		}
		return ctx, opts
	},
	"no options": func(_ int, ctx context.Context, _ []grpc.CallOption) (context.Context, []grpc.CallOption) {
		return ctx, nil
	},
	"more options": func(_ int, ctx context.Context, opts []grpc.CallOption) (context.Context, []grpc.CallOption) {
		return ctx, append(slices.Clip(opts), grpc.Peer(new(peer.Peer)), grpc.WaitForReady(true))
	},
	"other options first": func(i int, ctx context.Context, opts []grpc.CallOption) (context.Context, []grpc.CallOption) {
		if i == 0 {
			opts = []grpc.CallOption{grpc.Peer(new(peer.Peer))}
		}
		return ctx, opts
	},
}

func wrapped(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "own", "1")
}

// connFunc is a connection with what makes of a call and its options an answer.
type connFunc func(ctx context.Context, opts []grpc.CallOption) error

// Invoke implements grpc.ClientConnInterface.
func (f connFunc) Invoke(ctx context.Context, _ string, _, _ any, opts ...grpc.CallOption) error {
	return f(ctx, opts)
}

// NewStream implements grpc.ClientConnInterface.
func (f connFunc) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, f(ctx, opts)
}

// What was refused, sent again, and then succeeded, but not for an interceptor above,
// is not known as refused.
func TestAnAnswerToWhatWasSentAgainAndRejectedIsNoRefusal(t *testing.T) {
	t.Parallel()
	rejected := status.Error(codes.Internal, "rejected")
	for what, change := range changes {
		conn := connFunc(func(ctx context.Context, opts []grpc.CallOption) error {
			for i, answer := range []error{rpctypes.ErrGRPCNoLeader, nil} {
				ctx, opts := change(i, ctx, opts)
				_ = recordAttempt(ctx, pb.KV_Put_FullMethodName, &pb.PutRequest{}, &pb.PutResponse{}, nil,
					func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
						note(opts)
						return answer
					}, opts...)
			}
			return rejected
		})
		err := (&recordingConn{conn}).Invoke(t.Context(), pb.KV_Put_FullMethodName, nil, nil, grpc.StaticMethod(), new(attemptNeeds))
		if !errors.Is(err, rejected) || OutcomeOf(err) != Unknown {
			t.Errorf("%s: outcome %v of %v", what, OutcomeOf(err), err)
		}
	}
}

// Options that several calls share are not written to.
func TestOptionsThatTheStubDoesNotCopyStayAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, shared := range [][]grpc.CallOption{
		{new(attemptNeeds)},
		{grpc.WaitForReady(true), new(attemptNeeds)},
		{new(attemptNeeds), grpc.WaitForReady(true)}, // an option of one call comes last
	} {
		before := slices.Clone(shared)
		conn := connFunc(func(ctx context.Context, opts []grpc.CallOption) error {
			return recordAttempt(ctx, pb.KV_Put_FullMethodName, nil, nil, nil,
				func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
					note(opts)
					return status.Error(codes.Unavailable, "lost")
				}, opts...)
		})
		var calls sync.WaitGroup
		for range 4 {
			calls.Go(func() {
				err := (&recordingConn{conn}).Invoke(t.Context(), pb.KV_Put_FullMethodName, nil, nil, shared...)
				if OutcomeOf(err) != Unknown {
					t.Errorf("outcome %v of %v", OutcomeOf(err), err)
				}
			})
		}
		calls.Wait()
		if !slices.Equal(shared, before) {
			t.Errorf("%v has become %v", before, shared)
		}
	}
}

func TestACallThatNeedsNothingIsMadeAsItIs(t *testing.T) {
	t.Parallel()
	for _, given := range [][]grpc.CallOption{nil, {grpc.StaticMethod()}, {grpc.StaticMethod(), grpc.WaitForReady(true)}} {
		refused := status.Error(codes.Unavailable, "down")
		conn := connFunc(func(ctx context.Context, opts []grpc.CallOption) error {
			if _, recorded := ctx.(*attempt); recorded || !slices.Equal(opts, given) {
				t.Errorf("recorded: %v, with %v", recorded, opts)
			}
			return refused
		})
		err := (&recordingConn{conn}).Invoke(t.Context(), pb.KV_Put_FullMethodName, nil, nil, slices.Clone(given)...)
		if err != refused { //nolint:errorlint // it is made as it is
			t.Error(err)
		}
	}
}

// An attempt that has to ask for a leader itself does so, though nothing stands between
// it and its connection.
func TestAnAttemptWithoutHeadersAsksForALeader(t *testing.T) {
	t.Parallel()
	for _, leader := range []bool{true, false} {
		conn := connFunc(func(ctx context.Context, opts []grpc.CallOption) error {
			return recordAttempt(ctx, pb.KV_Range_FullMethodName, nil, nil, nil,
				func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
					md, _ := metadata.FromOutgoingContext(ctx)
					if asked := len(md.Get(rpctypes.MetadataRequireLeaderKey)) > 0; asked != leader {
						t.Errorf("leader required: %v, want %v", asked, leader)
					}
					return nil
				}, opts...)
		})
		err := (&recordingConn{conn}).Invoke(t.Context(), pb.KV_Range_FullMethodName, nil, nil, grpc.StaticMethod(), &attemptNeeds{leader: leader})
		if err != nil {
			t.Error(err)
		}
	}
}

// What is derived from an attempt ends with its call, of whatever kind its context is.
func TestWhatIsDerivedFromAnAttemptEndsWithTheCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, bounds := range []*patience.Patience{nil, patience.New(time.Hour)} {
			for _, foreign := range []bool{false, true} {
				call, cancel := context.WithCancel(t.Context())
				if ctx := call; foreign {
					call = foreignContext{ctx, make(chan struct{})}
					context.AfterFunc(ctx, func() { close(call.(foreignContext).done) })
				}
				a := (&attemptNeeds{headers: plainHeaders, patience: bounds}).begin(call)
				derived, end := context.WithCancel(a)
				var told, stopped bool
				context.AfterFunc(a, func() { told = true })
				stop := context.AfterFunc(a, func() { stopped = true })
				if !stop() || derived.Err() != nil {
					t.Errorf("bounded %v, foreign %v: over before the call is: %v", bounds != nil, foreign, derived.Err())
				}
				cancel()
				synctest.Wait()
				if derived.Err() == nil || !told || stopped {
					t.Errorf("bounded %v, foreign %v: derived %v, told %v, told who has left %v", bounds != nil, foreign, derived.Err(), told, stopped)
				}
				end()
				_ = a.end(nil)
			}
		}
	})
}

// foreignContext is one that package context does not know how to add to.
type foreignContext struct {
	context.Context
	done chan struct{}
}

// Done implements context.Context.
func (f foreignContext) Done() <-chan struct{} { return f.done }

// A connection that has DialOptions of its own records what one without has.
func TestOptionsThatStandTwiceRecordOnce(t *testing.T) {
	t.Parallel()
	refused := rpctypes.ErrGRPCNoSpace
	s := startScripted(t, func(context.Context, string, int, any) (any, error) { return nil, refused })
	_, want := s.client(t).Put(within5s(t), "key", "value")
	cli := newClient(t, clientv3.Config{Endpoints: []string{s.addr}, DialOptions: DialOptions()})
	_, err := cli.Put(within5s(t), "key", "value")
	if err == nil || want == nil || err.Error() != want.Error() || OutcomeOf(err) != OutcomeOf(want) {
		t.Errorf("%v: %v, want %v: %v", OutcomeOf(err), err, OutcomeOf(want), want)
	}
}

// What succeeded, but not for an interceptor above, is not known as refused.
func TestAnAnswerThatAnInterceptorRejectsIsNoRefusal(t *testing.T) {
	t.Parallel()
	a := new(attemptNeeds).begin(t.Context())
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
