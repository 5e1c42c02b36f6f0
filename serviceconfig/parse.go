package serviceconfig

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Parse reads a service config as a client must at run time: unknown fields
// are ignored, and any invalid value of a known field makes the whole config
// invalid (A21). The name of the file only serves messages and may be empty.
//
// Parse reports all defects at once; see [Errors].
func Parse(file string, data []byte) (*Config, error) {
	return parse(file, data, false)
}

// ParseStrict reads a service config as a tool that generates code or vets the
// config should. Beyond what [Parse] rejects, it rejects what a client would
// ignore or what cannot have been meant:
//
//   - a field that is not known, with the name that may have been meant;
//   - an entry of methodConfig that names no method;
//   - OK among the status codes of a policy;
//   - a maxTokens that is no integer (A6 says both that it must be one and that
//     it may have three decimals; Parse takes it).
//
// [CheckNames] and [CheckStreams] check a config against the services that it
// is for.
func ParseStrict(file string, data []byte) (*Config, error) {
	return parse(file, data, true)
}

func parse(file string, data []byte, strict bool) (*Config, error) {
	p := newParser(file, data)
	p.strict = strict
	root, syntax := readJSON(data)
	if syntax != nil {
		p.fail(syntax.at, "", "%s", syntax.msg)
		return nil, join(p.errs)
	}
	c := p.config(root, "")
	if len(p.errs) > 0 {
		return nil, join(p.errs)
	}
	return c, nil
}

// A parser makes a Config of a JSON value and gathers what is wrong with it.
type parser struct {
	file   string
	data   []byte
	lines  []int // where each line begins
	strict bool
	errs   []*Error
}

func newParser(file string, data []byte) *parser {
	p := &parser{file: file, data: data, lines: []int{0}}
	for i, c := range data {
		if c == '\n' {
			p.lines = append(p.lines, i+1)
		}
	}
	return p
}

func (p *parser) fail(at int, path, format string, args ...any) {
	p.errs = append(p.errs, &Error{Position: p.position(at), Path: path, Message: fmt.Sprintf(format, args...)})
}

func (p *parser) position(at int) Position {
	line, exact := slices.BinarySearch(p.lines, at)
	if exact {
		line++
	}
	return Position{File: p.file, Line: line, Column: 1 + at - p.lines[line-1]}
}

// show returns v as the document writes it, cut if it is long.
func (p *parser) show(v value) string {
	const most = 40
	text := string(p.data[v.from:v.to])
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// A field is a member that an object may have.
type field struct {
	name     string
	required bool
	parse    func(v value, path string)
}

// object hands each member of v to its field. A member that is null counts as
// absent, as the JSON form of Protocol Buffers has it.
func (p *parser) object(v value, path string, fields ...field) {
	if v.kind != kindObject {
		p.fail(v.from, path, "must be an object, got %s", v.kind)
		return
	}
	seen := make(map[string]bool, len(v.members))
	for _, m := range v.members {
		at := memberPath(path, m.key)
		if seen[m.key] {
			p.fail(m.from, at, "is given twice")
			continue
		}
		seen[m.key] = true
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == m.key })
		switch {
		case i < 0 && p.strict:
			p.fail(m.from, at, "unknown field%s", didYouMean(m.key, names(fields)))
		case i >= 0 && m.value.kind == kindNull:
			seen[m.key] = false
		case i >= 0:
			fields[i].parse(m.value, at)
		}
	}
	for _, f := range fields {
		if f.required && !seen[f.name] {
			p.fail(v.from, memberPath(path, f.name), "must be set")
		}
	}
}

func names(fields []field) []string {
	var all []string
	for _, f := range fields {
		all = append(all, f.name)
	}
	return all
}

// memberPath returns the path of a member of the object at path.
func memberPath(path, key string) string {
	plain := key != "" && !strings.ContainsFunc(key, func(c rune) bool {
		return c != '_' && c != '-' && !unicode.IsLetter(c) && !unicode.IsDigit(c)
	})
	switch {
	case !plain:
		return fmt.Sprintf("%s[%q]", path, key)
	case path == "":
		return key
	}
	return path + "." + key
}

// array hands each element of v to parse.
func (p *parser) array(v value, path string, parse func(v value, path string)) {
	if v.kind != kindArray {
		p.fail(v.from, path, "must be an array, got %s", v.kind)
		return
	}
	for i, e := range v.elems {
		parse(e, fmt.Sprintf("%s[%d]", path, i))
	}
}

func (p *parser) config(v value, path string) *Config {
	c := new(Config)
	if v.kind == kindArray {
		p.fail(v.from, path, "must be an object, got an array; ParseChoice reads a list of service config choices (A2)")
		return c
	}
	p.object(v, path,
		field{name: "methodConfig", parse: func(v value, path string) { c.Methods = p.methods(v, path) }},
		field{name: "retryThrottling", parse: func(v value, path string) { c.Throttling = p.throttling(v, path) }},
		field{name: "loadBalancingPolicy", parse: func(v value, path string) { p.string(v, path) }},
		field{name: "loadBalancingConfig", parse: p.loadBalancing},
		field{name: "healthCheckConfig", parse: p.healthCheck},
		field{name: "connectionScaling", parse: p.connectionScaling},
	)
	return c
}

func (p *parser) methods(v value, path string) []MethodConfig {
	var all []MethodConfig
	first := make(map[Name]string)
	p.array(v, path, func(v value, path string) {
		all = append(all, p.method(v, path, first))
	})
	return all
}

// method reads one entry; first says where each name was met first.
func (p *parser) method(v value, path string, first map[Name]string) MethodConfig {
	var m MethodConfig
	policies := 0
	p.object(v, path,
		field{name: "name", parse: func(v value, path string) {
			p.array(v, path, func(v value, path string) {
				m.Names = append(m.Names, p.name(v, path, first))
				m.at.names = append(m.at.names, p.position(v.from))
			})
		}},
		field{name: "waitForReady", parse: func(v value, path string) {
			if v.kind != kindBool {
				p.fail(v.from, path, "must be true or false, got %s", p.show(v))
				return
			}
			wait := v.text == "true"
			m.WaitForReady = &wait
		}},
		field{name: "timeout", parse: func(v value, path string) {
			m.Timeout = p.positive(v, path)
			m.at.timeout = p.position(v.from)
		}},
		field{name: "maxRequestMessageBytes", parse: func(v value, path string) { m.MaxRequestBytes = p.uint32(v, path) }},
		field{name: "maxResponseMessageBytes", parse: func(v value, path string) { m.MaxResponseBytes = p.uint32(v, path) }},
		field{name: "retryPolicy", parse: func(v value, path string) {
			m.Retry = p.retryPolicy(v, path)
			policies++
		}},
		field{name: "hedgingPolicy", parse: func(v value, path string) {
			m.Hedging = p.hedgingPolicy(v, path)
			m.at.hedging = p.position(v.from)
			policies++
		}},
	)
	if policies > 1 {
		p.fail(v.from, path, "only one of retryPolicy and hedgingPolicy may be set")
	}
	if p.strict && v.kind == kindObject && len(m.Names) == 0 {
		p.fail(v.from, memberPath(path, "name"), "must name a method, or the entry is for none; {} names all")
	}
	return m
}

func (p *parser) name(v value, path string, first map[Name]string) Name {
	var n Name
	p.object(v, path,
		field{name: "service", parse: func(v value, path string) { n.Service = p.string(v, path) }},
		field{name: "method", parse: func(v value, path string) { n.Method = p.string(v, path) }},
	)
	if n.Service == "" && n.Method != "" {
		p.fail(v.from, path, "a method needs its service")
	}
	if before, ok := first[n]; ok {
		p.fail(v.from, path, "names the same as %s", before)
	} else if v.kind == kindObject {
		first[n] = path
	}
	return n
}
