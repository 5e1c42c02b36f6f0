package reprise

import (
	"context"

	"google.golang.org/grpc"
)

// Unary is a unary RPC bound to its stub and its settings, which are resolved
// once, when it is made. It is what generated stubs consist of, and the
// fastest way to call under a policy. Make it with [NewUnary]. It is safe for
// concurrent use.
type Unary[Req, Resp any] struct {
	stub     func(context.Context, *Req, ...grpc.CallOption) (*Resp, error)
	settings CallSettings
	bare     bool
}

// NewUnary binds stub, usually a method value of a generated gRPC client, to
// the settings that opts make. The options are frozen here: what they refer
// to should not be changed later.
//
// If the connection has a retry policy of its own, from a service config,
// dial it with [grpc.WithDisableRetry], or the attempts multiply.
func NewUnary[Req, Resp any](
	stub func(context.Context, *Req, ...grpc.CallOption) (*Resp, error), opts ...CallOption,
) *Unary[Req, Resp] {
	u := &Unary[Req, Resp]{stub: stub}
	u.settings.apply(opts)
	u.settings.Attempt = 1
	if u.settings.rare != nil {
		u.settings.amend(func(r *rareSettings) { r.unary = true })
	}
	u.bare = stub != nil && u.settings.bare()
	return u
}

// Call makes the call, under the bound settings and then opts, as [Invoke]
// does. The response is what the last attempt returned. A stub, Unary or ctx
// that is nil gives an [*ArgumentError].
//
// Without opts, a success that needs no timeout costs no allocation.
func (u *Unary[Req, Resp]) Call(ctx context.Context, req *Req, opts ...CallOption) (*Resp, error) {
	if u == nil || !u.bare || len(opts) != 0 || ctx == nil {
		return u.callWith(ctx, req, opts)
	}
	if ctx.Err() != nil || u.settings.Throttle != nil {
		if refused := admitFirst(ctx, &u.settings); refused != nil {
			return nil, refused
		}
	}
	began := u.settings.began()
	resp, err := u.stub(firstContext(ctx), req, u.settings.GRPC...)
	if err == nil {
		succeeded(u.settings.Throttle)
		return resp, nil
	}
	return u.callAgain(ctx, req, resp, outcome{err: err, start: began.time()})
}

// callAgain goes on after the first attempt of a bare call has failed.
func (u *Unary[Req, Resp]) callAgain(ctx context.Context, req *Req, resp *Resp, first outcome) (*Resp, error) {
	err := retry(ctx, u.settings, func(ctx context.Context, cs CallSettings) (err error) {
		resp, err = u.stub(ctx, req, cs.GRPC...)
		return err
	}, first)
	return resp, err
}

// callWith is Call where settings have to be resolved or time be bounded. It
// is apart because here the settings and the response move to the heap.
func (u *Unary[Req, Resp]) callWith(ctx context.Context, req *Req, opts []CallOption) (*Resp, error) {
	if u == nil || u.stub == nil {
		return nil, &ArgumentError{Func: "Unary.Call", Problem: "the stub is nil"}
	}
	if ctx == nil {
		return nil, &ArgumentError{Func: "Unary.Call", Problem: "the context is nil"}
	}
	cs := u.settings
	cs.apply(opts)
	if cs.hedged() {
		return u.callHedged(ctx, req, cs)
	}
	var resp *Resp
	err := invoke(ctx, cs, func(ctx context.Context, cs CallSettings) (err error) {
		resp, err = u.stub(ctx, req, cs.GRPC...)
		return err
	})
	return resp, err
}
