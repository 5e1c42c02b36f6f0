package etcdcall

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/reprise-go/reprise/etcdcall/internal/patience"
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
func DialOptions() []grpc.DialOption { return dialOptions(recordAttempt) }

func dialOptions(recording grpc.UnaryClientInterceptor) []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(recording), grpc.WithDisableRetry()}
}

// attempt is the record of one unary attempt. It travels down to recordAttempt
// as the context of the attempt.
type attempt struct {
	context.Context
	call      context.Context // of which this is an attempt
	headers   context.Context // answers for the metadata, if not nil; see headers
	leader    bool            // recordAttempt is to ask that a server without a leader refuse it
	tokenTime uint64          // of tokenClock, before it was sent
	patience  *patience.Patience
	bounded   patience.Attempt // by patience

	server   peer.Peer     // see serverOf
	fresh    bool          // recordAttempt has not seen it; see untouched
	sent     bool          // as far as recordAttempt has seen
	answered bool          // with success
	failed   *attemptError // what the attempt is known for; nil after a success
}

type attemptKey struct{}

// Deadline implements context.Context. It is the call's: the time that an attempt may
// take is nothing that servers are told.
func (a *attempt) Deadline() (time.Time, bool) { return a.call.Deadline() }

// Value answers for the record and its metadata, and leaves all else to the
// parent.
func (a *attempt) Value(key any) any {
	if _, ok := key.(attemptKey); ok {
		return a
	}
	if a.headers != nil && !patience.IsCancelKey(key) {
		if value := a.headers.Value(key); value != nil {
			return value
		}
	}
	return a.Context.Value(key)
}

// AfterFunc passes what package context asks on to the attempt's own bound.
func (a *attempt) AfterFunc(f func()) (stop func() bool) {
	if bounded, ok := a.Context.(*patience.Attempt); ok {
		return bounded.AfterFunc(f)
	}
	return context.AfterFunc(a.Context, f)
}

// attemptNeeds are what the attempts of a method are made with. They reach
// recordingConn among the options of the call.
type attemptNeeds struct {
	grpc.EmptyCallOption

	leader   bool            // servers are to refuse them while they know of no leader
	headers  context.Context // the metadata of most attempts; nil if each makes its own
	patience *patience.Patience
}

// begin begins an attempt and returns its context. Its end must follow.
func (n *attemptNeeds) begin(ctx context.Context) *attempt {
	a := &attempt{call: ctx, leader: n.leader, patience: n.patience, tokenTime: tokenClock.Load()}
	if n.headers != nil && !hasHeaders(ctx) {
		a.headers, a.leader = n.headers, false
	}
	a.Context = n.patience.Begin(ctx, &a.bounded)
	return a
}

// end ends the attempt that came back with err, and returns the error that it is
// known for: when a token refresh after it failed, clientv3 returns the error of
// the refresh, which says nothing about the request.
func (a *attempt) end(err error) error {
	over := a.patience.End(&a.bounded)
	if err == nil {
		return nil
	}
	return a.knownFor(err, over)
}

// knownFor is end for an attempt that failed; over says that it took too long.
func (a *attempt) knownFor(err error, over bool) error {
	if a.failed == nil && a.answered {
		return rejected(err)
	}
	if a.failed != nil {
		if last, own := errors.AsType[*attemptError](err); !own {
			a.failed.refresh = err
		} else if last != a.failed {
			a.failed.again = last
		}
		err = a.failed
	}
	if over {
		return overdue(a.call, a.patience.Limit(), err)
	}
	return err
}

// rejected is the error of an attempt that succeeded and of which an interceptor
// above has made err. An err that sounds as if a server had applied nothing is told
// beside the truth.
func rejected(err error) error {
	failed := &attemptError{raw: err, sent: true}
	if failed.Outcome() == NotApplied {
		failed = &attemptError{raw: errAnswered, sent: true, refresh: err}
	}
	return failed
}

// recordAttempt is the unary interceptor of [DialOptions]. It returns what is
// known of the attempt with its error, and leaves it in the record that the
// bound calls of this package put into the context.
func recordAttempt(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if record, ok := ctx.(*attempt); ok && !record.leader && record.untouched(opts) {
		return record.send(method, req, reply, cc, invoker, opts)
	}
	if method == probeMethod {
		return answerProbe(ctx)
	}
	record, _ := ctx.Value(attemptKey{}).(*attempt)
	if record != nil && record.failed != nil && method == pb.Auth_Authenticate_FullMethodName {
		record = nil // clientv3 fetches a token in the context of the attempt that was refused
	}
	if record != nil && record.leader {
		ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	}
	if record != nil {
		record.fresh = false
	}
	server, opts := serverOf(record, opts)
	err := invoker(ctx, method, req, reply, cc, opts...)
	if err == nil {
		record.returned(nil, true)
		return nil
	}
	if _, ok := errors.AsType[*attemptError](err); ok {
		return err // the options stand twice on this connection
	}
	failed := &attemptError{raw: err, sent: server.Addr != nil && !oversized(err, req, opts)}
	record.returned(failed, failed.sent)
	return failed
}

// untouched reports whether recordAttempt, to which the attempt has come as the
// context, sees it for the first time, and with the options that recordingConn made.
func (a *attempt) untouched(opts []grpc.CallOption) bool {
	if !a.fresh || len(opts) == 0 {
		return false
	}
	last, ok := opts[len(opts)-1].(grpc.PeerCallOption)
	return ok && last.PeerAddr == &a.server
}

// send is what recordAttempt does with an attempt that is untouched: no interceptor
// above has changed anything.
// What gRPC does with the context then is to derive its own, once the addresses of the
// servers are known, which clientv3 has from its configuration.
func (a *attempt) send(method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption) error {
	a.fresh = false
	if bounded, ok := a.Context.(*patience.Attempt); ok {
		bounded.Direct()
	}
	err := invoker(a, method, req, reply, cc, opts...)
	if err == nil {
		a.sent, a.answered = true, true
		return nil
	}
	return a.sentInVain(err, req, opts)
}

func (a *attempt) sentInVain(err error, req any, opts []grpc.CallOption) error {
	if _, ok := errors.AsType[*attemptError](err); ok {
		return err // the options stand twice on this connection
	}
	failed := &attemptError{raw: err, sent: a.server.Addr != nil && !oversized(err, req, opts)}
	a.returned(failed, failed.sent)
	return failed
}

// returned notes what recordAttempt returns; nil is a success. An interceptor
// above may call it again: an attempt of which any part was sent was sent, and
// what became of an earlier part stays unknown, whatever is known of a later one.
func (a *attempt) returned(failed *attemptError, sent bool) {
	if a == nil {
		return
	}
	a.sent = a.sent || sent
	switch {
	case failed == nil:
		a.answered, a.failed = true, nil
	case a.answered:
		a.failed = &attemptError{raw: errAnswered, sent: true}
	case a.failed == nil || a.failed.Outcome() == NotApplied:
		failed.sent = a.sent
		a.failed = failed
	}
}

// errAnswered is what is known of an attempt that succeeded, and then failed by the
// doing of an interceptor above.
var errAnswered = status.Error(codes.Unknown, "etcdcall: the request had succeeded before an interceptor failed it")

// serverOf returns where gRPC notes which server an attempt went to, and the
// options with that place among them. gRPC fills it in when the attempt has a
// stream, which is to say, when its headers were handed to the transport; it
// does so in the goroutine of the call, before the call returns. An attempt of
// which no server is noted was never sent.
//
// (A stats handler tells the same by stats.OutHeader, and costs every call that
// succeeds about as much as all the rest of this package.)
func serverOf(record *attempt, opts []grpc.CallOption) (*peer.Peer, []grpc.CallOption) {
	for _, opt := range slices.Backward(opts) {
		if p, ok := opt.(grpc.PeerCallOption); ok && p.PeerAddr != nil && p.PeerAddr.Addr == nil {
			return p.PeerAddr, opts // clientv3's
		}
	}
	var server *peer.Peer
	if record != nil {
		server = &record.server
	} else {
		server = new(peer.Peer)
	}
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

// recordingConn makes each unary call under a record of its own. Among the options of
// each is its attemptNeeds, usually the last; a call without is made as it is.
type recordingConn struct{ grpc.ClientConnInterface }

// Invoke implements grpc.ClientConnInterface.
func (c *recordingConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	for at := len(opts) - 1; at >= 0; at-- {
		needs, ok := opts[at].(*attemptNeeds)
		if !ok {
			continue
		}
		a := needs.begin(ctx)
		if _, added := opts[0].(grpc.StaticMethodCallOption); !added {
			opts = slices.Clone(opts) // the stub has not, and they are those of other calls too
		}
		opts[at] = grpc.Peer(&a.server)
		a.fresh = true
		return a.end(c.ClientConnInterface.Invoke(a, method, args, reply, opts...))
	}
	return c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
}

// recorded makes one attempt by stub under a record of its own, for stubs whose
// connection does not do it.
func recorded[Req, Resp any](stub unaryStub[Req, Resp], needs *attemptNeeds) unaryStub[Req, Resp] {
	return func(ctx context.Context, req *Req, opts ...grpc.CallOption) (*Resp, error) {
		a := needs.begin(ctx)
		resp, err := stub(a, req, opts...)
		return resp, a.end(err)
	}
}

type unaryStub[Req, Resp any] = func(context.Context, *Req, ...grpc.CallOption) (*Resp, error)

// attemptError is the error of one attempt with what the record knows of it.
type attemptError struct {
	raw  error
	sent bool
	// refresh is what failed after the attempt: the refreshing of the token, or an
	// interceptor after a success.
	refresh error
	// again is what came of sending it again, which an interceptor did.
	again *attemptError
	// cleared is how many attempts of the same call came before, all of which
	// OnWrites has seen and found not applied.
	cleared int
}

// Error is the text of the gRPC error.
func (e *attemptError) Error() string {
	text := e.raw.Error()
	if e.again != nil {
		text += "; sent again by an interceptor: " + e.again.Error()
	}
	if e.refresh != nil {
		text += "; afterwards: " + e.refresh.Error()
	}
	return text
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
