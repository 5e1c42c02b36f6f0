package reprise

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// ServerStream is a server-streaming RPC bound to its stub and its settings.
// Make it with [NewServerStream]. It is safe for concurrent use; the streams
// that it opens are used like those of gRPC.
type ServerStream[Req, Resp any] struct {
	stub     func(context.Context, *Req, ...grpc.CallOption) (grpc.ServerStreamingClient[Resp], error)
	settings CallSettings
}

// NewServerStream binds stub, a method value of a generated gRPC client, to
// the settings that opts make, as [NewUnary] does.
func NewServerStream[Req, Resp any](
	stub func(context.Context, *Req, ...grpc.CallOption) (grpc.ServerStreamingClient[Resp], error), opts ...CallOption,
) *ServerStream[Req, Resp] {
	s := &ServerStream[Req, Resp]{stub: stub}
	s.settings.apply(opts)
	return s
}

// Open opens a stream under the bound settings and then opts, and sends req.
//
// Until the first message is received, a failure is handled as that of an
// [Invoke]: the stream is opened again with the same request, so req must not
// be changed before. This happens in the first Recv, which also reports what
// failed in the opening; Open itself waits for no pause. The first message
// commits the stream (gRPC A6): whatever fails later is returned as it is,
// since trying again would deliver messages twice. In contrast to grpc-go's
// own retry, response headers alone do not commit it; a call of Header does.
//
// [WithTimeout] bounds the whole life of the stream, as gRPC does;
// [WithAttemptTimeout] bounds the time that each attempt has until its first
// message. As with gRPC, ctx must be cancelled or the stream be read to its
// end, or resources leak.
func (s *ServerStream[Req, Resp]) Open(
	ctx context.Context, req *Req, opts ...CallOption,
) (grpc.ServerStreamingClient[Resp], error) {
	if s == nil || s.stub == nil {
		return nil, &ArgumentError{Func: "ServerStream.Open", Problem: "the stub is nil"}
	}
	if ctx == nil {
		return nil, &ArgumentError{Func: "ServerStream.Open", Problem: "the context is nil"}
	}
	cs := s.settings
	cs.apply(opts)
	r, err := openReplay(ctx, cs, "ServerStream.Open", func(ctx context.Context, cs CallSettings) (grpc.ClientStream, error) {
		return s.stub(ctx, req, cs.GRPC...)
	})
	if err != nil {
		return nil, err
	}
	r.sent = true
	return &grpc.GenericClientStream[Req, Resp]{ClientStream: r}, nil
}

// Stream is a client-streaming or bidirectional RPC bound to its stub and its
// settings. S is the stub's stream type. Make it with [NewStream]. It is safe
// for concurrent use.
type Stream[S grpc.ClientStream] struct {
	stub     func(context.Context, ...grpc.CallOption) (S, error)
	settings CallSettings
}

// NewStream binds stub, a method value of a generated gRPC client, to the
// settings that opts make, as [NewUnary] does.
func NewStream[S grpc.ClientStream](stub func(context.Context, ...grpc.CallOption) (S, error), opts ...CallOption) *Stream[S] {
	s := &Stream[S]{stub: stub}
	s.settings.apply(opts)
	return s
}

// Open opens a stream under the bound settings and then opts. Only the
// opening is tried again: what was sent on a stream that broke is not known
// here. With grpc-go that covers little, since a stream opens before the
// server has answered; what must outlive breaks needs a protocol of its own.
//
// [WithTimeout] bounds the whole life of the stream, [WithAttemptTimeout] the
// opening. What they cost is freed when the stream ends, of which gRPC tells by
// [grpc.OnFinish]; with a stub that drops its options, when ctx ends or the time
// of WithTimeout is over.
func (s *Stream[S]) Open(ctx context.Context, opts ...CallOption) (S, error) {
	var stream S
	if s == nil || s.stub == nil {
		return stream, &ArgumentError{Func: "Stream.Open", Problem: "the stub is nil"}
	}
	if ctx == nil {
		return stream, &ArgumentError{Func: "Stream.Open", Problem: "the context is nil"}
	}
	cs := s.settings
	cs.apply(opts)
	err := openStream(ctx, cs, "Stream.Open", func(ctx context.Context, cs CallSettings) (_ grpc.ClientStream, err error) {
		stream, err = s.stub(ctx, cs.GRPC...)
		return stream, err
	})
	return stream, err
}

// openFunc opens one attempt of a stream.
type openFunc func(ctx context.Context, cs CallSettings) (grpc.ClientStream, error)

// openStream retries the opening of a stream that cannot be replayed.
func openStream(ctx context.Context, cs CallSettings, fn string, open openFunc) error {
	if cs.hedged() {
		return errHedgeUnbound(fn)
	}
	life := cs.takeTimeouts()
	cancel := func() {}
	if life.whole > 0 {
		ctx, cancel = context.WithTimeout(ctx, life.whole)
	}
	lives := false
	defer func() {
		if !lives {
			cancel()
		}
	}()
	err := invoke(ctx, cs, func(ctx context.Context, cs CallSettings) error {
		var a *streamAttempt
		var opened atomic.Bool // until then, what ends is no stream of the caller's
		if life != (lifetime{}) {
			// The stream's own context would tell of its end too, but asking
			// for it makes grpc-go give up its transparent retry.
			cs.GRPC = slices.Concat(cs.GRPC, []grpc.CallOption{grpc.OnFinish(func(error) {
				if opened.Load() {
					a.cancel(nil)
					cancel()
				}
			})})
		}
		if a = life.open(ctx, cs, open); a.err != nil {
			return a.fail(a.err)
		}
		if !a.commit() {
			return a.overdue()
		}
		opened.Store(true)
		lives = true
		return nil
	})
	return err
}

// lifetime are the bounds of a stream, which outlive the call that opens it.
type lifetime struct{ whole, untilFirst time.Duration }

// takeTimeouts moves the timeouts out of cs, since Invoke would end them, and
// with them the stream, when the opening returns.
func (cs *CallSettings) takeTimeouts() lifetime {
	l := lifetime{whole: cs.Timeout}
	cs.Timeout = 0
	if cs.rare != nil && cs.rare.attemptTimeout > 0 {
		l.untilFirst = cs.rare.attemptTimeout
		cs.amend(func(r *rareSettings) { r.attemptTimeout = 0 })
	}
	return l
}

// open makes an attempt whose context ends only with cancel, if at all.
func (l lifetime) open(ctx context.Context, cs CallSettings, open openFunc) *streamAttempt {
	a := &streamAttempt{ctx: ctx, cancel: func(error) {}, limit: l.untilFirst}
	if l.untilFirst > 0 {
		a.ctx, a.cancel = context.WithCancelCause(ctx)
		a.timer = time.AfterFunc(l.untilFirst, func() { a.cancel(errAttemptTime) })
	}
	if a.stream, a.err = open(a.ctx, cs); a.err != nil {
		a.stream = nil
	}
	return a
}

// streamAttempt is one attempt of a stream.
type streamAttempt struct {
	stream grpc.ClientStream // nil if err is set
	err    error             // the opening failed
	ctx    context.Context   //nolint:containedctx // it says why the stream ended
	cancel context.CancelCauseFunc
	timer  *time.Timer // cancels the attempt; nil without WithAttemptTimeout
	limit  time.Duration
}

// errAttemptTime is the cause of the end of an attempt's context.
var errAttemptTime = errors.New("the attempt's time ran out")

// commit ends the bound on the time until the first message. It reports whether
// the attempt was in time: one that was not is being cancelled.
func (a *streamAttempt) commit() bool { return a.timer == nil || a.timer.Stop() }

// overdue returns the error of an attempt that was not in time.
func (a *streamAttempt) overdue() error {
	return &AttemptTimeoutError{Timeout: a.limit, Err: errAttemptTime}
}

// fail ends the attempt and returns the error to report for err.
func (a *streamAttempt) fail(err error) error {
	a.commit()
	if context.Cause(a.ctx) == errAttemptTime && !isAnswer(err) { //nolint:errorlint // the very value
		err = &AttemptTimeoutError{Timeout: a.limit, Err: err}
	}
	a.cancel(nil)
	return err
}

// received returns the error of an attempt whose first RecvMsg returned err, nil
// if the server has answered: a message, or the regular end of a stream without
// one.
func (a *streamAttempt) received(err error) error {
	inTime := a.commit()
	switch {
	case errors.Is(err, io.EOF), err == nil && inTime:
		return nil
	case err == nil:
		return a.overdue()
	default:
		return a.fail(err)
	}
}
