package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// A Fault tells what to do to the next calls of a method. A fault of a
// streaming method is applied to the stream when it is opened or, with After,
// to the first message that the server sends on it.
type Fault struct {
	// Method is the full name of the method, such as MethodPut. Empty means
	// every method.
	Method string
	// Match, if it is set, says which of these calls are meant, by the name
	// of the method and the request, which is nil for a streaming method. It
	// must not wait, and may be called concurrently.
	Match func(method string, req any) bool
	// Member is the one whose calls are meant. Nil means every member.
	Member *Member
	// Calls is how many calls are meant, the next ones. Zero means one, a
	// negative number means all until [Injection.Stop].
	Calls int
	// After lets the server handle the request first, so that a write is
	// applied. Without it the server never sees the request.
	After bool
	// Answer is what the client gets instead. It must be set.
	Answer Answer
}

// Full names of methods, for [Fault].
const (
	MethodRange     = "/etcdserverpb.KV/Range"
	MethodPut       = "/etcdserverpb.KV/Put"
	MethodDelete    = "/etcdserverpb.KV/DeleteRange"
	MethodTxn       = "/etcdserverpb.KV/Txn"
	MethodCompact   = "/etcdserverpb.KV/Compact"
	MethodWatch     = "/etcdserverpb.Watch/Watch"
	MethodGrant     = "/etcdserverpb.Lease/LeaseGrant"
	MethodRevoke    = "/etcdserverpb.Lease/LeaseRevoke"
	MethodKeepAlive = "/etcdserverpb.Lease/LeaseKeepAlive"
)

// An Answer is what a client gets in place of the server's response. It is
// made by [Lose], [Fail], [ResetStream] or [Hang].
type Answer struct {
	give   func(ctx context.Context, m *Member) error
	frames bool // needs to see HTTP/2 frames
}

// Lose answers nothing: the connection on which the call came is reset. Other
// calls on the same connection are lost with it.
func Lose() Answer {
	return Answer{give: func(ctx context.Context, m *Member) error {
		if p, ok := peer.FromContext(ctx); ok {
			m.client.resetFrom(p.Addr.String())
		}
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}}
}

// Fail answers with an error: one of rpctypes or of package status; any other
// error becomes the code Unknown.
func Fail(err error) Answer {
	if etcd, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		err = status.Error(etcd.Code(), etcd.Error())
	}
	return Answer{give: func(context.Context, *Member) error {
		if err == nil {
			return status.Error(codes.Unknown, "etcdtest: Fail was given no error")
		}
		return err
	}}
}

// ResetStream ends the call's HTTP/2 stream with RST_STREAM and the given
// code, as a proxy on the way may do. A gRPC client sees
// [http2.ErrCodeCancel] as the status Canceled, and sends a call again without
// being asked after [http2.ErrCodeRefusedStream].
func ResetStream(code http2.ErrCode) Answer {
	return Answer{frames: true, give: func(ctx context.Context, _ *Member) error {
		if err := grpc.SetHeader(ctx, metadata.Pairs(resetHeader, strconv.FormatUint(uint64(code), 10))); err != nil {
			return err
		}
		return status.Error(codes.Unknown, "etcdtest: the link ends this stream")
	}}
}

// Hang answers nothing and leaves the connection as it is: the call ends when
// the client gives it up or its connection ends.
func Hang() Answer {
	return Answer{give: func(ctx context.Context, _ *Member) error {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}}
}

// An Injection is a [Fault] at work.
type Injection struct {
	fault Fault
	all   *faults
	left  atomic.Int64 // calls not yet claimed
	fired atomic.Int64 // calls that were answered
	once  sync.Once
	done  chan struct{} // closed when no answer is to come
}

// Inject puts a fault to work, on top of those that already are. A call gets
// the first one that fits.
func (c *Cluster) Inject(f Fault) (*Injection, error) {
	if f.Answer.give == nil {
		return nil, errors.New("etcdtest: a fault without an answer")
	}
	if f.Answer.frames && c.opts.tls {
		return nil, ErrEncrypted
	}
	in := &Injection{fault: f, all: &c.faults, done: make(chan struct{})}
	in.left.Store(int64(f.Calls))
	if f.Calls == 0 {
		in.left.Store(1)
	}
	c.faults.add(in)
	return in, nil
}

// Fired returns how many calls the fault has hit: those that got the answer,
// or are about to.
func (in *Injection) Fired() int { return int(in.fired.Load()) }

// Wait waits until all calls that the fault is meant for were hit, and with
// [Fault.After] were handled by the server. A fault meant for all calls ends
// with [Injection.Stop] only.
func (in *Injection) Wait(ctx context.Context) error {
	select {
	case <-in.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("etcdtest: %d calls were hit: %w", in.Fired(), context.Cause(ctx))
	}
}

// Stop takes the fault away. Calls that it has hit already are not undone.
func (in *Injection) Stop() {
	in.all.remove(in)
	in.finish()
}

func (in *Injection) finish() { in.once.Do(func() { close(in.done) }) }

// give answers a claimed call.
func (in *Injection) give(ctx context.Context, m *Member) error {
	n := in.fired.Add(1)
	if want := max(1, in.fault.Calls); in.fault.Calls >= 0 && n == int64(want) {
		in.finish()
	}
	return in.fault.Answer.give(ctx, m)
}

// take claims a call, if one is left.
func (in *Injection) take(m *Member, method string, req any) bool {
	f := &in.fault
	if f.Method != "" && f.Method != method || f.Member != nil && f.Member != m {
		return false
	}
	if f.Match != nil && !f.Match(method, req) {
		return false
	}
	for {
		left := in.left.Load()
		switch {
		case left == 0:
			return false
		case left < 0:
			return true
		case in.left.CompareAndSwap(left, left-1):
			if left == 1 {
				in.all.remove(in)
			}
			return true
		}
	}
}

// faults holds the injections of a cluster, in the order they came.
type faults struct {
	mu   sync.RWMutex
	list []*Injection
}

func (ff *faults) add(in *Injection) {
	ff.mu.Lock()
	defer ff.mu.Unlock()
	ff.list = append(ff.list, in)
}

func (ff *faults) remove(in *Injection) {
	ff.mu.Lock()
	defer ff.mu.Unlock()
	if i := slices.Index(ff.list, in); i >= 0 {
		ff.list = slices.Concat(ff.list[:i], ff.list[i+1:])
	}
}

// find returns the injection that hits this call, or nil.
func (ff *faults) find(m *Member, method string, req any) *Injection {
	ff.mu.RLock()
	list := ff.list // replaced on removal, appended to otherwise
	ff.mu.RUnlock()
	for _, in := range list {
		if in.take(m, method, req) {
			return in
		}
	}
	return nil
}

func (ff *faults) unary(m *Member) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		in := ff.find(m, info.FullMethod, req)
		if in == nil {
			return handler(ctx, req)
		}
		if in.fault.After {
			// What the server says of it is what gets lost.
			_, _ = handler(ctx, req)
		}
		return nil, in.give(ctx, m)
	}
}

func (ff *faults) stream(m *Member) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		in := ff.find(m, info.FullMethod, nil)
		if in == nil {
			return handler(srv, ss)
		}
		if !in.fault.After {
			return in.give(ss.Context(), m)
		}
		ctx, cancel := context.WithCancel(ss.Context())
		defer cancel()
		faulty := &faultyStream{ServerStream: ss, ctx: ctx, cancel: cancel, member: m, injection: in}
		err := handler(srv, faulty)
		if faulty.answered.Load() {
			return faulty.result
		}
		return err
	}
}

// faultyStream gives the answer in place of the first message that the server
// sends, and nothing afterwards.
type faultyStream struct {
	grpc.ServerStream
	ctx       context.Context
	cancel    context.CancelFunc
	member    *Member
	injection *Injection
	once      sync.Once
	answered  atomic.Bool
	result    error
}

func (s *faultyStream) Context() context.Context { return s.ctx }

func (s *faultyStream) SendMsg(any) error {
	s.once.Do(func() {
		s.result = s.injection.give(s.ServerStream.Context(), s.member)
		s.answered.Store(true)
		s.cancel()
	})
	return s.result
}
