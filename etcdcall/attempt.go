package etcdcall

import (
	"context"
	"errors"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// DialOptions returns what a connection needs so that [OutcomeOf], [OnReads] and
// [OnWrites] know of a failed unary call whether its request was ever sent: a
// stats handler that watches each attempt, and an interceptor that returns the
// attempt's error together with that knowledge. The error keeps its gRPC status,
// and errors.Is matches it with the rpctypes error of the same message.
//
// Without these options a transport failure of a write has outcome [Unknown].
// [New] and [Configure] set them already. The interceptor should be the
// innermost: append these options after all others.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithStatsHandler(sendWatcher{}),
		grpc.WithChainUnaryInterceptor(recordAttempt),
	}
}

// attempt is the record of one unary attempt. It travels down to the transport
// as the context of the attempt, which is also how the stats handler finds it.
type attempt struct {
	context.Context
	method    string
	tokenTime uint64 // of tokenClock, before it was sent
	sent      atomic.Bool
	failed    *attemptError
}

type attemptKey struct{}

// Value answers for the record itself and leaves all else to the parent.
func (a *attempt) Value(key any) any {
	if _, ok := key.(attemptKey); ok {
		return a
	}
	return a.Context.Value(key)
}

// recordAttempt is the unary interceptor of [DialOptions]. It fills in the
// record that the bound calls of this package put into the context, or one of
// its own: for hand-written stubs, and for a second RPC under the same context,
// such as the token refresh of clientv3.
func recordAttempt(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if method == probeMethod {
		return answerProbe(ctx)
	}
	record, _ := ctx.Value(attemptKey{}).(*attempt)
	if record == nil || record.method != "" {
		record = &attempt{Context: ctx}
		ctx = record
	}
	record.method = method
	err := invoker(ctx, method, req, reply, cc, opts...)
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*attemptError](err); ok {
		// The options stand twice on this connection: the inner record, which
		// the stats handler found, is the one that knows.
		return err
	}
	record.failed = &attemptError{raw: err, sent: record.sent.Load()}
	return record.failed
}

// recorded makes one attempt by stub under a record of its own, and returns
// what the record says rather than what came back through clientv3: when a
// token refresh after the attempt failed, clientv3 returns the error of the
// refresh, which says nothing about the request.
func recorded[Req, Resp any](stub unaryStub[Req, Resp]) unaryStub[Req, Resp] {
	return func(ctx context.Context, req *Req, opts ...grpc.CallOption) (*Resp, error) {
		record := &attempt{Context: ctx, tokenTime: tokenClock.Load()}
		resp, err := stub(record, req, opts...)
		if err == nil || record.failed == nil {
			return resp, err
		}
		if _, own := errors.AsType[*attemptError](err); !own || !errors.Is(err, record.failed) {
			record.failed.refresh = err
		}
		return resp, record.failed
	}
}

type unaryStub[Req, Resp any] = func(context.Context, *Req, ...grpc.CallOption) (*Resp, error)

// sendWatcher is the stats handler of [DialOptions]. A unary request whose
// message was never handed to the transport cannot have been applied, even if
// its headers went out; grpc-go reports that hand-over as stats.OutPayload, in
// the goroutine of the call and before the call can return.
type sendWatcher struct{}

// TagRPC returns the context as it is: the record is in it already.
func (sendWatcher) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC notes that the request was sent.
func (sendWatcher) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.OutPayload); !ok {
		return
	}
	if record, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		record.sent.Store(true)
	}
}

// TagConn returns the context as it is.
func (sendWatcher) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (sendWatcher) HandleConn(context.Context, stats.ConnStats) {}

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
	etcd, ok := rpctypes.Error(e.raw).(rpctypes.EtcdError)
	return etcd, ok
}
