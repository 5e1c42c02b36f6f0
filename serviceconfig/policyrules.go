package serviceconfig

import (
	"time"

	"google.golang.org/grpc/codes"
)

// The rules of this file are those of A6, "Integration with Service Config"
// and the validation lists of its sections.

func (p *parser) retryPolicy(v value, path string) *RetryPolicy {
	r := new(RetryPolicy)
	p.object(v, path,
		field{"maxAttempts", true, func(v value, path string) { r.MaxAttempts = p.maxAttempts(v, path) }},
		field{"initialBackoff", true, func(v value, path string) { r.InitialBackoff = p.positive(v, path) }},
		field{"maxBackoff", true, func(v value, path string) { r.MaxBackoff = p.positive(v, path) }},
		field{"backoffMultiplier", true, func(v value, path string) { r.BackoffMultiplier = p.positiveNumber(v, path) }},
		field{"retryableStatusCodes", true, func(v value, path string) {
			r.Codes = p.statusCodes(v, path)
			if v.kind == kindArray && len(v.elems) == 0 {
				p.fail(v.from, path, "must not be empty")
			}
		}},
	)
	return r
}

func (p *parser) hedgingPolicy(v value, path string) *HedgingPolicy {
	h := new(HedgingPolicy)
	p.object(v, path,
		field{"maxAttempts", true, func(v value, path string) { h.MaxAttempts = p.maxAttempts(v, path) }},
		field{"hedgingDelay", false, func(v value, path string) {
			var ok bool
			// A6 gives no range, but an attempt cannot start before the one before it.
			if h.Delay, ok = p.duration(v, path); ok && h.Delay < 0 {
				p.fail(v.from, path, "must not be negative, got %s", p.show(v))
			}
		}},
		field{"nonFatalStatusCodes", false, func(v value, path string) { h.NonFatalCodes = p.statusCodes(v, path) }},
	)
	return h
}

func (p *parser) throttling(v value, path string) *RetryThrottling {
	t := new(RetryThrottling)
	p.object(v, path,
		field{"maxTokens", true, func(v value, path string) {
			number, ok := p.number(v, path)
			if !ok {
				return
			}
			t.MaxTokens = number
			switch {
			case number <= 0 || number > 1000:
				p.fail(v.from, path, "must be greater than 0 and at most 1000, got %s", p.show(v))
			case !isInteger(v) && p.strict:
				p.fail(v.from, path, "must be an integer, got %s", p.show(v))
			case !isInteger(v):
				t.MaxTokens = p.thousandths(v, path)
			}
		}},
		field{"tokenRatio", true, func(v value, path string) { t.TokenRatio = p.thousandths(v, path) }},
	)
	return t
}

// maxAttempts reads a number of attempts. It may be above what a client does
// and is kept as it is: the limit is the client's and no error (A6).
func (p *parser) maxAttempts(v value, path string) int {
	n, ok := p.integer(v, path)
	if ok && n <= 1 {
		p.fail(v.from, path, "must be greater than 1, got %s", p.show(v))
	}
	return n
}

// positive reads a duration that must be greater than zero. A6 demands it of
// backoffs. Of timeouts no text does, but a call that ends before it begins
// cannot be meant.
func (p *parser) positive(v value, path string) time.Duration {
	d, ok := p.duration(v, path)
	if ok && d <= 0 {
		p.fail(v.from, path, "must be greater than 0, got %s", p.show(v))
	}
	return d
}

func (p *parser) statusCodes(v value, path string) []codes.Code {
	var all []codes.Code
	p.array(v, path, func(v value, path string) {
		code, ok := p.statusCode(v, path)
		if ok && code == codes.OK && p.strict {
			p.fail(v.from, path, "must be the code of a failure, got %s", p.show(v))
		}
		all = append(all, code)
	})
	return all
}
