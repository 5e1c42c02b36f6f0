package reprise

import (
	"context"
	"slices"

	"google.golang.org/grpc"
)

// UnaryClientInterceptor returns an interceptor that makes every unary call of
// a connection under the settings that opts make, as [Invoke] does: any
// generated client gets the policy without a change. [PerCall] overrides it
// for one call.
//
// The attempts are made one after the other, so targets such as [grpc.Header],
// [grpc.Trailer] and [grpc.Peer] that the caller passed hold what the last
// attempt brought. Interceptors that follow in the chain run once for each
// attempt. Dial with [grpc.WithDisableRetry] if the connection's service
// config has retry policies, or the attempts multiply.
func UnaryClientInterceptor(opts ...CallOption) grpc.UnaryClientInterceptor {
	var bound CallSettings
	bound.apply(opts)
	if bound.rare != nil {
		bound.amend(func(r *rareSettings) { r.unary = true })
	}
	return func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
		invoker grpc.UnaryInvoker, gopts ...grpc.CallOption,
	) error {
		cs := bound.intercepted(method, cc, gopts)
		if cs.hedged() {
			return errHedgeUnbound("UnaryClientInterceptor")
		}
		return invoke(ctx, cs, func(ctx context.Context, cs CallSettings) error {
			return invoker(ctx, method, req, reply, cc, cs.GRPC...)
		})
	}
}

// StreamClientInterceptor returns an interceptor that opens every stream of a
// connection under the settings that opts make. Server streams are opened
// anew until their first message, as [ServerStream.Open] describes; of other
// streams the opening alone is retried, as by [Stream.Open]. [PerCall]
// overrides the settings for one call.
func StreamClientInterceptor(opts ...CallOption) grpc.StreamClientInterceptor {
	var bound CallSettings
	bound.apply(opts)
	return func(
		ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
		streamer grpc.Streamer, gopts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		cs := bound.intercepted(method, cc, gopts)
		open := func(ctx context.Context, cs CallSettings) (grpc.ClientStream, error) {
			return streamer(ctx, desc, cc, method, cs.GRPC...)
		}
		const fn = "StreamClientInterceptor"
		if desc.ServerStreams && !desc.ClientStreams {
			r, err := openReplay(ctx, cs, fn, open)
			if err != nil {
				return nil, err
			}
			return r, nil
		}
		var stream grpc.ClientStream
		err := openStream(ctx, cs, fn, func(ctx context.Context, cs CallSettings) (_ grpc.ClientStream, err error) {
			stream, err = open(ctx, cs)
			return stream, err
		})
		if err != nil {
			return nil, err
		}
		return stream, nil
	}
}

// PerCall returns a gRPC call option by which the caller of a generated client
// overrides, for one call, the settings of the interceptors of this package.
// Elsewhere it has no effect.
func PerCall(opts ...CallOption) grpc.CallOption {
	return perCallOption{opts: slices.Clone(opts)}
}

type perCallOption struct {
	grpc.EmptyCallOption

	opts []CallOption
}

// intercepted returns the settings of one call on a connection.
func (cs *CallSettings) intercepted(method string, cc *grpc.ClientConn, gopts []grpc.CallOption) CallSettings {
	own := *cs
	own.GRPC = slices.Clip(gopts)
	if len(cs.GRPC) > 0 {
		// The caller's options come last, so that they hold.
		own.GRPC = slices.Clip(slices.Concat(cs.GRPC, gopts))
	}
	for _, opt := range gopts {
		if o, ok := opt.(perCallOption); ok {
			own.applyPerCall(o.opts)
		}
	}
	if own.observed() && own.rare.method == "" {
		own.amend(func(r *rareSettings) {
			r.method = method
			if cc != nil {
				r.target = cc.CanonicalTarget()
			}
		})
	}
	return own
}

//go:noinline
func (cs *CallSettings) applyPerCall(opts []CallOption) { cs.apply(opts) }
