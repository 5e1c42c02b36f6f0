package gen

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/reprise-go/reprise/serviceconfig"
)

// policies say how each method is called by default.
type policies struct {
	config *serviceconfig.Config // nil without a service config
}

// idempotent stands for [reprise.Recommended], which holds for a method whose
// idempotency_level says that it may be repeated if there is no service config.
var idempotent = new(serviceconfig.MethodConfig)

// of returns what holds for m, nil if nothing does.
func (p *policies) of(m *protogen.Method) *serviceconfig.MethodConfig {
	if p.config != nil {
		return p.config.Method(fullMethod(m))
	}
	switch optionsOf(m).GetIdempotencyLevel() {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS, descriptorpb.MethodOptions_IDEMPOTENT:
		return idempotent
	}
	return nil
}

// fullMethod returns the name of m as it goes over the wire.
func fullMethod(m *protogen.Method) string {
	return fmt.Sprintf("/%s/%s", m.Parent.Desc.FullName(), m.Desc.Name())
}

func optionsOf(m *protogen.Method) *descriptorpb.MethodOptions {
	o, _ := m.Desc.Options().(*descriptorpb.MethodOptions)
	return o
}

func (p *policies) throttling() *serviceconfig.RetryThrottling {
	if p.config == nil {
		return nil
	}
	return p.config.Throttling
}

// A group is the methods of a service for which the same holds.
type group struct {
	name    string // of the variable that holds their options
	config  *serviceconfig.MethodConfig
	methods []*protogen.Method
}

// groups returns the groups of s in the order of their first methods.
func (p *policies) groups(s *protogen.Service) []group {
	var all []group
	for _, m := range s.Methods {
		config := p.of(m)
		i := slices.IndexFunc(all, func(g group) bool { return g.config == config })
		if i < 0 {
			i = len(all)
			all = append(all, group{name: "opts" + strconv.Itoa(i+1), config: config})
		}
		all[i].methods = append(all[i].methods, m)
	}
	return all
}

// describe says in words what m holds for its methods.
func (p *policies) describe(m *serviceconfig.MethodConfig) string {
	switch m {
	case nil:
		return "one attempt"
	case idempotent:
		return "as reprise.Recommended says"
	}
	parts := []string{"one attempt"}
	switch {
	case m.Retry != nil:
		r := m.Retry
		parts[0] = fmt.Sprintf("up to %d attempts after %s, with pauses from %v to %v that grow by %s (±20%%)",
			p.config.Attempts(r.MaxAttempts), codeList(r.Codes), r.InitialBackoff, r.MaxBackoff,
			decimal(r.BackoffMultiplier))
	case m.Hedging != nil:
		h := m.Hedging
		parts[0] = fmt.Sprintf("up to %d hedged attempts, %v apart", p.config.Attempts(h.MaxAttempts), h.Delay)
		if len(h.NonFatalCodes) > 0 {
			parts[0] += ", going on after " + codeList(h.NonFatalCodes)
		}
	}
	if m.Timeout > 0 {
		parts = append(parts, fmt.Sprintf("ends after %v", m.Timeout))
	}
	if m.WaitForReady != nil && *m.WaitForReady {
		parts = append(parts, "waits for a connection")
	}
	if m.MaxRequestBytes != nil {
		parts = append(parts, fmt.Sprintf("requests of at most %d bytes", *m.MaxRequestBytes))
	}
	if m.MaxResponseBytes != nil {
		parts = append(parts, fmt.Sprintf("responses of at most %d bytes", *m.MaxResponseBytes))
	}
	return strings.Join(parts, "; ")
}

func codeList(cc []codes.Code) string {
	var names []string
	for _, c := range cc {
		names = append(names, c.String())
	}
	return strings.Join(names, ", ")
}
