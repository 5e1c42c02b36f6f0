package etcdcall

import (
	"context"
	"errors"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// DialOptions returns what a connection needs so that [OutcomeOf], [OnReads] and
// [OnWrites] know of a failed unary call whether its request was ever sent. The
// interceptor among them returns the attempt's error together with that
// knowledge. The error keeps its gRPC status, and errors.Is matches it with the
// rpctypes error of the same message.
//
// They also switch off gRPC's own retry policy, which a service config may bring
// along: attempts would multiply, and only the last of them would be known.
// gRPC still sends a request again by itself when the server cannot have seen it.
//
// Without these options a transport failure of a write has outcome [Unknown].
// [New] and [Configure] set them already. The interceptor should be the
// innermost: append these options after all others.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(recordAttempt),
		grpc.WithDisableRetry(),
	}
}

// attempt is the record of one unary attempt. It travels down to recordAttempt
// as the context of the attempt.
type attempt struct {
	context.Context
	leader    bool   // the server is to refuse it while it knows of no leader
	tokenTime uint64 // of tokenClock, before it was sent
	failed    *attemptError
}

// boundedAttempt is the record of an attempt that a patience bounds.
type boundedAttempt struct {
	attempt
	bounded
}

type attemptKey struct{}

// Value answers for the record itself and leaves all else to the parent.
func (a *attempt) Value(key any) any {
	if _, ok := key.(attemptKey); ok {
		return a
	}
	return a.Context.Value(key)
}

// recordAttempt is the unary interceptor of [DialOptions]. It returns what is
// known of the attempt with its error, and leaves it in the record that the
// bound calls of this package put into the context.
func recordAttempt(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if method == probeMethod {
		return answerProbe(ctx)
	}
	record, _ := ctx.Value(attemptKey{}).(*attempt)
	if record != nil && record.leader {
		ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	}
	server, opts := serverOf(opts)
	err := invoker(ctx, method, req, reply, cc, opts...)
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*attemptError](err); ok {
		return err // the options stand twice on this connection
	}
	failed := &attemptError{raw: err, sent: server.Addr != nil && !oversized(err, req, opts)}
	if record != nil && (record.failed == nil || method != pb.Auth_Authenticate_FullMethodName) {
		record.failed = failed
	}
	return failed
}

// serverOf returns where gRPC notes which server an attempt went to, and the
// options with that place among them. gRPC fills it in when the attempt has a
// stream, which is to say, when its headers were handed to the transport; it
// does so in the goroutine of the call, before the call returns. An attempt of
// which no server is noted was never sent.
//
// (A stats handler tells the same by stats.OutHeader, and costs every call that
// succeeds about as much as all the rest of this package.)
func serverOf(opts []grpc.CallOption) (*peer.Peer, []grpc.CallOption) {
	for _, opt := range slices.Backward(opts) {
		if p, ok := opt.(grpc.PeerCallOption); ok && p.PeerAddr != nil && p.PeerAddr.Addr == nil {
			return p.PeerAddr, opts // clientv3's
		}
	}
	server := new(peer.Peer)
	return server, append(slices.Clip(opts), grpc.Peer(server))
}

// oversized reports whether err says that a message was too large to send and
// the message is this request: of a response the server says it in the same
// words.
func oversized(err error, req any, opts []grpc.CallOption) bool {
	message, ok := req.(proto.Message)
	if !ok || status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), textSendTooLarge) {
		return false
	}
	for _, opt := range slices.Backward(opts) {
		if limit, ok := opt.(grpc.MaxSendMsgSizeCallOption); ok {
			return proto.Size(message) > limit.MaxSendMsgSize
		}
	}
	return false
}

// recordingConn makes each unary call under a record of its own, and returns
// what the record says rather than what came back through clientv3: when a
// token refresh after the attempt failed, clientv3 returns the error of the
// refresh, which says nothing about the request.
type recordingConn struct {
	grpc.ClientConnInterface
	needs map[string]attemptNeeds // by method
}

// attemptNeeds are what the attempts of a method are made with.
type attemptNeeds struct {
	leader   bool      // servers are to refuse them while they know of no leader
	patience *patience // that bounds them; nil for none
}

// Invoke implements grpc.ClientConnInterface.
func (c recordingConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return recordedAttempt(ctx, c.needs[method], func(ctx context.Context) error {
		return c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	})
}

func recordedAttempt(ctx context.Context, needs attemptNeeds, attemptIt func(context.Context) error) error {
	if needs.patience != nil {
		return needs.patience.attempt(&boundedAttempt{attempt: newAttempt(ctx, needs)}, attemptIt)
	}
	record := newAttempt(ctx, needs)
	return record.result(attemptIt(&record))
}

func newAttempt(ctx context.Context, needs attemptNeeds) attempt {
	return attempt{Context: ctx, leader: needs.leader, tokenTime: tokenClock.Load()}
}

// result returns the error of the attempt for the one that came back.
func (a *attempt) result(err error) error {
	if err == nil || a.failed == nil {
		return err
	}
	if _, own := errors.AsType[*attemptError](err); !own || !errors.Is(err, a.failed) {
		a.failed.refresh = err
	}
	return a.failed
}

// recorded makes one attempt by stub under a record of its own, for stubs whose
// connection does not do it.
func recorded[Req, Resp any](stub unaryStub[Req, Resp]) unaryStub[Req, Resp] {
	return recordedWith(stub, attemptNeeds{})
}

// recordedWith is recorded for attempts that need more.
func recordedWith[Req, Resp any](stub unaryStub[Req, Resp], needs attemptNeeds) unaryStub[Req, Resp] {
	return func(ctx context.Context, req *Req, opts ...grpc.CallOption) (resp *Resp, err error) {
		err = recordedAttempt(ctx, needs, func(ctx context.Context) error {
			resp, err = stub(ctx, req, opts...)
			return err
		})
		return resp, err
	}
}

type unaryStub[Req, Resp any] = func(context.Context, *Req, ...grpc.CallOption) (*Resp, error)

// attemptError is the error of one attempt with what the record knows of it.
type attemptError struct {
	raw  error
	sent bool
	// refresh is why the token could not be refreshed after the attempt.
	refresh error
	// cleared is how many attempts of the same call came before, all of which
	// OnWrites has seen and found not applied.
	cleared int
}

// Error is the text of the gRPC error.
func (e *attemptError) Error() string {
	if e.refresh != nil {
		return e.raw.Error() + "; refreshing the token: " + e.refresh.Error()
	}
	return e.raw.Error()
}

// Unwrap returns the gRPC error, its meaning in package rpctypes if it has one,
// and why the token could not be refreshed.
func (e *attemptError) Unwrap() []error {
	errs := append(make([]error, 0, 3), e.raw)
	if etcd, ok := e.etcd(); ok {
		errs = append(errs, etcd)
	}
	if e.refresh != nil {
		errs = append(errs, e.refresh)
	}
	return errs
}

// GRPCStatus returns the status of the gRPC error, so that status.FromError and
// the interceptors above see what they would have seen without the record.
func (e *attemptError) GRPCStatus() *status.Status { return status.Convert(e.raw) }

// Outcome tells whether the attempt was applied.
func (e *attemptError) Outcome() Outcome { return classify(e).applied }

// etcd returns the rpctypes error with the message that the server sent.
func (e *attemptError) etcd() (rpctypes.EtcdError, bool) {
	etcd, ok := rpctypes.Error(e.raw).(rpctypes.EtcdError) //nolint:errorlint // Error returns it unwrapped
	return etcd, ok
}
