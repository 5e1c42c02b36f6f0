package gen

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/reprise-go/reprise/serviceconfig"
)

// throttle writes the function that returns the throttle of the service config.
func (e *emitter) throttle(t *serviceconfig.RetryThrottling) {
	n := e.names
	e.P()
	e.comment(fmt.Sprintf("%s returns a new throttle as the service config sets it up. The clients\n"+
		"that talk to one server, also those of other services, share one if it is passed to the\n"+
		"default options of each.", n.throttle))
	e.deprecation(e.serviceDeprecated(), "")
	e.P("func ", n.throttle, "() ", e.ident(reprisePackage, "CallOption"), " {")
	e.P("return ", e.ident(reprisePackage, "WithThrottle"), "(", e.ident(reprisePackage, "NewThrottle"),
		"(", decimal(t.MaxTokens), ", ", decimal(t.TokenRatio), "))")
	e.P("}")
}

// defaults writes the function that returns the default options.
func (e *emitter) defaults() {
	n := e.names
	groups := e.policies.groups(e.service)
	throttling := e.policies.throttling()
	e.P()
	if e.policies.config != nil {
		e.comment(fmt.Sprintf("%s returns the options that the service config gives to\n"+
			"each method, and after them extra:", n.defaults))
	} else {
		e.comment(fmt.Sprintf("%s returns options that retry the methods whose\n"+
			"idempotency_level says that they may be repeated, and after them extra:", n.defaults))
	}
	for _, g := range groups {
		var names []string
		for _, m := range g.methods {
			names = append(names, m.GoName)
		}
		e.comment(fmt.Sprintf("  - %s: %s", strings.Join(names, ", "), e.policies.describe(g.config)))
	}
	if throttling != nil {
		e.P("//")
		e.comment(fmt.Sprintf("The methods share a throttle, which each result has of its own. Clients that\n"+
			"talk to the same server should share one: pass one [%s] to each.", n.throttle))
	}
	e.deprecation(e.serviceDeprecated(), "")
	option := e.ident(reprisePackage, "CallOption")
	e.P("func ", n.defaults, "(extra ...", option, ") *", n.options, " {")
	if throttling != nil {
		e.P("throttle := ", n.throttle, "()")
	}
	for _, g := range groups {
		// Clipped, so that who appends to the options of one method does not
		// change those of another.
		e.P(g.name, " := ", e.ident(slicesPackage, "Clip"), "(append([]", option, "{")
		e.options(g.config)
		if throttling != nil {
			e.P("throttle,")
		}
		e.P("}, extra...))")
	}
	e.P("return &", n.options, "{")
	for _, g := range groups {
		for _, m := range g.methods {
			e.P(m.GoName, ": ", g.name, ",")
		}
	}
	e.P("}")
	e.P("}")
	if throttling != nil {
		e.throttle(throttling)
	}
}

// options writes the elements of a slice that holds what m says.
func (e *emitter) options(m *serviceconfig.MethodConfig) {
	switch {
	case m == nil:
		return
	case m == idempotent:
		e.P(e.ident(reprisePackage, "Recommended"), "(),")
		return
	case m.Retry != nil:
		e.retry(m.Retry)
	case m.Hedging != nil:
		e.hedging(m.Hedging)
	}
	if m.Timeout > 0 {
		e.P(e.ident(reprisePackage, "WithTimeout"), "(", duration(e.GeneratedFile, m.Timeout), "),")
	}
	var forward []string
	if m.WaitForReady != nil {
		forward = append(forward, fmt.Sprintf("%s(%t)", e.ident(grpcPackage, "WaitForReady"), *m.WaitForReady))
	}
	if m.MaxRequestBytes != nil {
		forward = append(forward, e.size("MaxCallSendMsgSize", *m.MaxRequestBytes))
	}
	if m.MaxResponseBytes != nil {
		forward = append(forward, e.size("MaxCallRecvMsgSize", *m.MaxResponseBytes))
	}
	if len(forward) > 0 {
		e.P(e.ident(reprisePackage, "WithGRPCOptions"), "(", strings.Join(forward, ", "), "),")
	}
}

// retry writes the options of a retryPolicy. A6 makes heeding the server's
// advice part of it.
func (e *emitter) retry(r *serviceconfig.RetryPolicy) {
	e.P(e.ident(reprisePackage, "WithRetry"), "(func() ", e.ident(reprisePackage, "Retryer"), " {")
	e.P("return ", e.ident(reprisePackage, "OnCodes"), "(", e.codes(r.Codes), ", ", e.ident(reprisePackage, "Backoff"), "{")
	e.P("Initial: ", duration(e.GeneratedFile, r.InitialBackoff), ",")
	e.P("Max: ", duration(e.GeneratedFile, r.MaxBackoff), ",")
	e.P("Multiplier: ", decimal(r.BackoffMultiplier), ",")
	e.P("Jitter: ", e.ident(reprisePackage, "JitterPlusMinus"), ",")
	e.P("})")
	e.P("}),")
	e.P(e.ident(reprisePackage, "WithMaxAttempts"), "(", e.policies.config.Attempts(r.MaxAttempts), "),")
	e.P(e.ident(reprisePackage, "WithPushback"), "(),")
}

// hedging writes the options of a hedgingPolicy.
func (e *emitter) hedging(h *serviceconfig.HedgingPolicy) {
	e.P(e.ident(reprisePackage, "WithHedge"), "(", e.ident(reprisePackage, "HedgePolicy"), "{")
	e.P("MaxAttempts: ", e.policies.config.Attempts(h.MaxAttempts), ",")
	if h.Delay > 0 {
		e.P("Delay: ", duration(e.GeneratedFile, h.Delay), ",")
	}
	if len(h.NonFatalCodes) > 0 {
		e.P("NonFatalCodes: ", e.codes(h.NonFatalCodes), ",")
	}
	e.P("}),")
	e.P(e.ident(reprisePackage, "WithPushback"), "(),")
}

// size returns a call of the gRPC option name with n. It is cut to what an int
// of 32 bits holds; no message is larger.
func (e *emitter) size(name string, n uint32) string {
	return fmt.Sprintf("%s(%d)", e.ident(grpcPackage, name), min(n, 1<<31-1))
}

func (e *emitter) codes(cc []codes.Code) string {
	var all []string
	for _, c := range cc {
		all = append(all, e.ident(codesPackage, c.String()))
	}
	return fmt.Sprintf("[]%s{%s}", e.ident(codesPackage, "Code"), strings.Join(all, ", "))
}
