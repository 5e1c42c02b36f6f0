package serviceconfig

import (
	"context"
	"math"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"github.com/reprise-go/reprise"
)

// A Policy is a [Config] made ready for the calls to one server: the call
// options of each method, with one throttle for all, since A6 counts failures
// and successes for each server name. Make one Policy for each server name and
// use it for every connection to that server.
//
// If a connection gets the same config from its resolver or from
// [grpc.WithDefaultServiceConfig], dial it with [grpc.WithDisableRetry], or the
// attempts multiply.
//
// A Policy is safe for concurrent use. It does not follow later changes of the
// Config.
type Policy struct {
	// methods is keyed by /service/method, /service/ and, for the default,
	// the empty string, which is always there.
	methods  map[string]methodPolicy
	throttle *reprise.Throttle
}

type methodPolicy struct {
	options []reprise.CallOption
	unary   grpc.UnaryClientInterceptor
	stream  grpc.StreamClientInterceptor
}

// NewPolicy makes a Policy of c. Every method's options end with extra, which
// so go before what c says.
func NewPolicy(c *Config, extra ...reprise.CallOption) *Policy {
	p := &Policy{methods: make(map[string]methodPolicy)}
	var shared []reprise.CallOption
	if t := c.Throttling; t != nil {
		p.throttle = reprise.NewThrottle(t.MaxTokens, t.TokenRatio)
		shared = append(shared, reprise.WithThrottle(p.throttle))
	}
	shared = append(shared, extra...)
	p.methods[""] = newMethodPolicy(shared, shared)
	for i := range c.Methods {
		m := &c.Methods[i]
		plain := slices.Concat(m.options(), shared)
		full := slices.Concat(c.policyOptions(m), plain)
		method := newMethodPolicy(full, full)
		if m.Hedging != nil && m.Retry == nil {
			method = newMethodPolicy(full, plain)
		}
		for _, name := range m.Names {
			p.methods[name.path()] = method
		}
	}
	return p
}

// newMethodPolicy makes bound calls under options and intercepted calls under
// intercepted.
func newMethodPolicy(options, intercepted []reprise.CallOption) methodPolicy {
	return methodPolicy{
		options: slices.Clip(options),
		unary:   reprise.UnaryClientInterceptor(intercepted...),
		stream:  reprise.StreamClientInterceptor(intercepted...),
	}
}

// CallOptions returns the options of a method, given as
// /package.Service/Method, for [reprise.Invoke], [reprise.NewUnary] and the
// like. The options of a method that c says nothing of are those of every
// method: the throttle, if there is one, and the extra options. The slice must
// not be changed.
//
// The options of a method with a hedgingPolicy are for bound unary calls alone
// ([reprise.WithHedge]).
//
// CallOptions does not allocate.
func (p *Policy) CallOptions(fullMethod string) []reprise.CallOption {
	return p.method(fullMethod).options
}

// UnaryClientInterceptor returns an interceptor that makes the unary calls of a
// connection as the config says; see [reprise.UnaryClientInterceptor]. An
// interceptor cannot hedge: a method with a hedgingPolicy gets one attempt, as
// from any client that does not know hedging.
func (p *Policy) UnaryClientInterceptor() grpc.UnaryClientInterceptor {
	return func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
		invoker grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		return p.method(method).unary(ctx, method, req, reply, cc, invoker, opts...)
	}
}

// StreamClientInterceptor returns an interceptor that opens the streams of a
// connection as the config says; see [reprise.StreamClientInterceptor]. A
// timeout bounds a stream from its opening to its end, also one from an entry
// for the whole service or for all, as in gRPC; [CheckStreams] warns of that.
// Streams are not hedged.
func (p *Policy) StreamClientInterceptor() grpc.StreamClientInterceptor {
	return func(
		ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
		streamer grpc.Streamer, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		return p.method(method).stream(ctx, desc, cc, method, streamer, opts...)
	}
}

// Throttle returns the throttle that all calls share, nil if the config has
// none.
func (p *Policy) Throttle() *reprise.Throttle { return p.throttle }

func (p *Policy) method(fullMethod string) methodPolicy {
	if m, ok := p.methods[fullMethod]; ok {
		return m
	}
	if m, ok := p.methods[fullMethod[:strings.LastIndexByte(fullMethod, '/')+1]]; ok {
		return m
	}
	return p.methods[""]
}

// policyOptions returns the options of the retry or hedging policy of m. A6
// makes heeding the server's advice part of both.
func (c *Config) policyOptions(m *MethodConfig) []reprise.CallOption {
	switch r, h := m.Retry, m.Hedging; {
	case r != nil:
		return []reprise.CallOption{
			reprise.WithRetry(r.retryer), reprise.WithMaxAttempts(c.Attempts(r.MaxAttempts)), reprise.WithPushback(),
		}
	case h != nil:
		return []reprise.CallOption{
			reprise.WithHedge(reprise.HedgePolicy{
				MaxAttempts: c.Attempts(h.MaxAttempts), Delay: h.Delay, NonFatalCodes: h.NonFatalCodes,
			}),
			reprise.WithPushback(),
		}
	}
	return nil
}

// options returns what m says beside its policy.
func (m *MethodConfig) options() []reprise.CallOption {
	var opts []reprise.CallOption
	if m.Timeout > 0 {
		opts = append(opts, reprise.WithTimeout(m.Timeout))
	}
	if forward := m.grpcOptions(); len(forward) > 0 {
		opts = append(opts, reprise.WithGRPCOptions(forward...))
	}
	return opts
}

// retryer returns the Retryer of one call.
func (r *RetryPolicy) retryer() reprise.Retryer {
	return reprise.OnCodes(r.Codes, reprise.Backoff{
		Initial:    r.InitialBackoff,
		Max:        r.MaxBackoff,
		Multiplier: r.BackoffMultiplier,
		Jitter:     reprise.JitterPlusMinus,
	})
}

func (m *MethodConfig) grpcOptions() []grpc.CallOption {
	var opts []grpc.CallOption
	if m.WaitForReady != nil {
		opts = append(opts, grpc.WaitForReady(*m.WaitForReady))
	}
	if n := m.MaxRequestBytes; n != nil {
		opts = append(opts, grpc.MaxCallSendMsgSize(toInt(*n)))
	}
	if n := m.MaxResponseBytes; n != nil {
		opts = append(opts, grpc.MaxCallRecvMsgSize(toInt(*n)))
	}
	return opts
}

// toInt returns n, or the largest int if that is smaller.
func toInt(n uint32) int { return int(min(uint64(n), math.MaxInt)) }
