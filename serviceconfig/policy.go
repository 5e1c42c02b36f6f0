package serviceconfig

import (
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
	methods  map[string][]reprise.CallOption
	throttle *reprise.Throttle
}

// NewPolicy makes a Policy of c. Every method's options end with extra, which
// so go before what c says.
func NewPolicy(c *Config, extra ...reprise.CallOption) *Policy {
	p := &Policy{methods: make(map[string][]reprise.CallOption)}
	var shared []reprise.CallOption
	if t := c.Throttling; t != nil {
		p.throttle = reprise.NewThrottle(t.MaxTokens, t.TokenRatio)
		shared = append(shared, reprise.WithThrottle(p.throttle))
	}
	shared = append(shared, extra...)
	p.methods[""] = slices.Clip(shared)
	for i := range c.Methods {
		opts := slices.Clip(slices.Concat(c.options(&c.Methods[i]), shared))
		for _, name := range c.Methods[i].Names {
			p.methods[name.path()] = opts
		}
	}
	return p
}

// CallOptions returns the options of a method, given as
// /package.Service/Method, for [reprise.Invoke], [reprise.NewUnary] and the
// like. The options of a method that c says nothing of are those of every
// method: the throttle, if there is one, and the extra options. The slice must
// not be changed.
//
// It does not allocate.
func (p *Policy) CallOptions(fullMethod string) []reprise.CallOption {
	if opts, ok := p.methods[fullMethod]; ok {
		return opts
	}
	if opts, ok := p.methods[fullMethod[:strings.LastIndexByte(fullMethod, '/')+1]]; ok {
		return opts
	}
	return p.methods[""]
}

// Throttle returns the throttle that all calls share, nil if the config has
// none.
func (p *Policy) Throttle() *reprise.Throttle { return p.throttle }

// options returns what an entry says, as call options.
func (c *Config) options(m *MethodConfig) []reprise.CallOption {
	var opts []reprise.CallOption
	if r := m.Retry; r != nil {
		opts = append(opts,
			reprise.WithRetry(r.retryer),
			reprise.WithMaxAttempts(c.Attempts(r.MaxAttempts)))
	}
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
