package serviceconfig

import (
	"slices"
	"strings"
)

// A Client is what a list of service config choices may ask of a client (A2).
type Client struct {
	// Language is the language of the client, "go" if empty.
	Language string

	// Hostname is the name of the client's host, as [os.Hostname] has it.
	Hostname string

	// Percentile is a number from 0 to 99, drawn at random once for each
	// client: a choice for n percent of the clients is for those below n.
	Percentile int
}

// ParseChoice reads a list of service config choices, which is how a DNS record
// holds a service config (A2), and returns the config of the first choice that
// is for client. If none is, the config is empty (A21).
//
// All choices must be well formed, without unknown fields. Of their configs only
// the one that is chosen is read, as by [Parse].
func ParseChoice(file string, data []byte, client Client) (*Config, error) {
	p := newParser(file, data)
	root, syntax := readJSON(data)
	if syntax != nil {
		p.fail(syntax.at, "", "%s", syntax.msg)
		return nil, join(p.errs)
	}
	config, path, found := p.choose(root, client)
	c := new(Config)
	if found {
		c = p.config(config, path)
	}
	if len(p.errs) > 0 {
		return nil, join(p.errs)
	}
	return c, nil
}

// choose returns the config of the first choice that is for client.
func (p *parser) choose(root value, client Client) (config value, path string, found bool) {
	// A2: any unexpected field of a choice makes the whole invalid.
	p.strict = true
	defer func() { p.strict = false }()
	p.array(root, "", func(v value, at string) {
		c := choice{percentage: 100}
		p.object(v, at,
			field{name: "clientLanguage", parse: func(v value, path string) { c.languages = p.strings(v, path) }},
			field{name: "clientHostname", parse: func(v value, path string) { c.hostnames = p.strings(v, path) }},
			field{name: "percentage", parse: func(v value, path string) {
				n, ok := p.integer(v, path)
				if ok && (n < 0 || n > 100) {
					p.fail(v.from, path, "must be from 0 to 100, got %s", p.show(v))
				}
				c.percentage = n
			}},
			field{name: "serviceConfig", required: true, parse: func(v value, path string) {
				if v.kind != kindObject {
					p.fail(v.from, path, "must be an object, got %s", v.kind)
				}
				c.config, c.path = v, path
			}},
		)
		if !found && c.isFor(client) {
			config, path, found = c.config, c.path, len(p.errs) == 0
		}
	})
	return config, path, found
}

type choice struct {
	languages, hostnames []string // empty: any
	percentage           int
	config               value
	path                 string
}

func (c *choice) isFor(client Client) bool {
	language := client.Language
	if language == "" {
		language = "go"
	}
	fits := func(l string) bool { return strings.EqualFold(l, language) }
	return (len(c.languages) == 0 || slices.ContainsFunc(c.languages, fits)) &&
		(len(c.hostnames) == 0 || slices.Contains(c.hostnames, client.Hostname)) &&
		client.Percentile < c.percentage
}

func (p *parser) strings(v value, path string) []string {
	var all []string
	p.array(v, path, func(v value, path string) { all = append(all, p.string(v, path)) })
	return all
}
