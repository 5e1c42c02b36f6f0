package serviceconfig

// The fields read here concern the channel, which Reprise does not make. Their
// form is checked, so that a config that passes here does not fail there for a
// slip of the pen; the policies that loadBalancingConfig names are the
// channel's to know.

func (p *parser) loadBalancing(v value, path string) {
	p.array(v, path, func(v value, path string) {
		switch {
		case v.kind != kindObject:
			p.fail(v.from, path, "must be an object, got %s", v.kind)
		case len(v.members) != 1:
			p.fail(v.from, path, "must have one field, the name of a load balancing policy, got %d", len(v.members))
		}
	})
}

func (p *parser) healthCheck(v value, path string) {
	p.object(v, path, field{name: "serviceName", parse: func(v value, path string) { p.string(v, path) }})
}

func (p *parser) connectionScaling(v value, path string) {
	p.object(v, path, field{name: "maxConnectionsPerSubchannel", parse: func(v value, path string) { p.uint32(v, path) }})
}
