package serviceconfig

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// CheckNames reports every name in c of a method that its service lacks and,
// unless others is true, of a service that is not among services. Set others
// when the config is also for services that are described elsewhere.
func CheckNames(c *Config, services []protoreflect.ServiceDescriptor, others bool) error {
	var known []string
	for _, s := range services {
		known = append(known, string(s.FullName()))
	}
	var errs []*Error
	for i, m := range c.Methods {
		for j, name := range m.Names {
			k := slices.Index(known, name.Service)
			fail := func(format string, args ...any) {
				errs = append(errs, &Error{
					Position: m.at.name(j),
					Path:     fmt.Sprintf("methodConfig[%d].name[%d]", i, j),
					Message:  fmt.Sprintf(format, args...),
				})
			}
			switch {
			case name.Service == "" || k < 0 && others:
			case k < 0:
				fail("unknown service %q%s", name.Service, didYouMean(name.Service, known))
			case name.Method != "" && services[k].Methods().ByName(protoreflect.Name(name.Method)) == nil:
				fail("service %s has no method %q%s", name.Service, name.Method,
					didYouMean(name.Method, methodNames(services[k])))
			}
		}
	}
	return join(errs)
}

func methodNames(s protoreflect.ServiceDescriptor) []string {
	var all []string
	for i := range s.Methods().Len() {
		all = append(all, string(s.Methods().Get(i).Name()))
	}
	return all
}

func (at entryPositions) name(j int) Position {
	if j < len(at.names) {
		return at.names[j]
	}
	return Position{}
}

// CheckStreams reports what c gives to the streaming methods of services that
// can hardly be meant:
//
//   - a timeout that a stream inherits from an entry for its whole service or
//     for all services. gRPC bounds a stream by it from its opening to its end,
//     and Reprise does the same with the same config, but whoever writes such
//     an entry mostly has unary calls in mind. An entry that names the streaming
//     method says what is meant, with a timeout or without;
//   - a hedgingPolicy, since Reprise does not hedge streams.
func CheckStreams(c *Config, services []protoreflect.ServiceDescriptor) error {
	var errs []*Error
	for _, s := range services {
		for i := range s.Methods().Len() {
			method := s.Methods().Get(i)
			if !method.IsStreamingClient() && !method.IsStreamingServer() {
				continue
			}
			name := Name{Service: string(s.FullName()), Method: string(method.Name())}
			index := c.index(name.path())
			if index < 0 {
				continue
			}
			m := c.Methods[index]
			fail := func(at Position, field, format string, args ...any) {
				errs = append(errs, &Error{
					Position: at,
					Path:     fmt.Sprintf("methodConfig[%d].%s", index, field),
					Message:  fmt.Sprintf(format, args...),
				})
			}
			if m.Timeout != 0 && !slices.Contains(m.Names, name) {
				fail(m.at.timeout, "timeout", "would end every stream of %s.%s after %v; "+
					"give that method an entry of its own, with a timeout or without",
					name.Service, name.Method, m.Timeout)
			}
			if m.Hedging != nil {
				fail(m.at.hedging, "hedgingPolicy", "the streaming method %s.%s cannot be hedged; "+
					"give it an entry of its own without hedging", name.Service, name.Method)
			}
		}
	}
	return join(errs)
}
