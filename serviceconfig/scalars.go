package serviceconfig

import (
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

func (p *parser) string(v value, path string) string {
	if v.kind != kindString {
		p.fail(v.from, path, "must be a string, got %s", v.kind)
	}
	return v.text
}

// number reads a JSON number. It reports false after a failure.
func (p *parser) number(v value, path string) (float64, bool) {
	if v.kind != kindNumber {
		p.fail(v.from, path, "must be a number, got %s", v.kind)
		return 0, false
	}
	f, err := strconv.ParseFloat(v.text, 64)
	if err != nil {
		p.fail(v.from, path, "is out of range: %s", p.show(v))
		return 0, false
	}
	return f, true
}

func (p *parser) positiveNumber(v value, path string) float64 {
	f, ok := p.number(v, path)
	if ok && f <= 0 {
		p.fail(v.from, path, "must be greater than 0, got %s", p.show(v))
	}
	return f
}

// thousandths reads a number greater than 0 and drops what lies beyond its
// third decimal (A6: 0.5466 is treated as 0.546).
func (p *parser) thousandths(v value, path string) float64 {
	f, ok := p.number(v, path)
	if !ok {
		return 0
	}
	// The text is cut, not the number, so that 0.29 does not become 0.289.
	text := v.text
	if strings.ContainsAny(text, "eE") {
		text = strconv.FormatFloat(f, 'f', -1, 64)
	}
	whole, decimals, _ := strings.Cut(text, ".")
	cut, _ := strconv.ParseFloat(whole+"."+decimals[:min(3, len(decimals))], 64)
	if cut <= 0 {
		p.fail(v.from, path, "must be greater than 0 in its first three decimals, got %s", p.show(v))
	}
	return cut
}

// isInteger reports whether a number is written as an integer.
func isInteger(v value) bool {
	return v.kind == kindNumber && !strings.ContainsAny(v.text, ".eE")
}

// integer reads a number that is written as an integer; one beyond an int32
// becomes the nearest int32. It reports false after a failure.
func (p *parser) integer(v value, path string) (int, bool) {
	if !isInteger(v) {
		p.fail(v.from, path, "must be an integer, got %s", p.show(v))
		return 0, false
	}
	n, _ := strconv.ParseInt(v.text, 10, 32) // the nearest, if out of range
	return int(n), true
}

func (p *parser) uint32(v value, path string) *uint32 {
	if isInteger(v) {
		if n, err := strconv.ParseUint(v.text, 10, 32); err == nil {
			u := uint32(n)
			return &u
		}
	}
	p.fail(v.from, path, "must be an integer from 0 to %d, got %s", uint32(math.MaxUint32), p.show(v))
	return nil
}

// duration reads the JSON form of a google.protobuf.Duration, whose number
// must be a JSON number (A6). One that a time.Duration cannot hold becomes the
// nearest that it can. It reports false after a failure.
func (p *parser) duration(v value, path string) (time.Duration, bool) {
	if v.kind != kindString {
		p.fail(v.from, path, `must be a duration in quotes such as "0.25s", got %s`, p.show(v))
		return 0, false
	}
	d, msg := parseDuration(v.text)
	if msg != "" {
		p.fail(v.from, path, "%s, got %s", msg, p.show(v))
		return 0, false
	}
	return d, true
}

// maxProtoSeconds bounds the whole seconds of a google.protobuf.Duration, about
// 10,000 years.
const maxProtoSeconds = 315_576_000_000

// parseDuration returns a message if text is not a duration.
func parseDuration(text string) (time.Duration, string) {
	number, ok := strings.CutSuffix(text, "s")
	if !ok {
		return 0, `must be a duration: a decimal number of seconds and "s"`
	}
	r := reader{data: []byte(number)}
	if literal, err := r.number(); err != nil || literal != number || strings.ContainsAny(number, "eE") {
		return 0, `must be a duration: a decimal number of seconds and "s"`
	}
	number, negative := strings.CutPrefix(number, "-")
	whole, fraction, _ := strings.Cut(number, ".")
	if len(fraction) > 9 {
		return 0, "must be a duration of at most 9 decimals"
	}
	seconds, err := strconv.ParseInt(whole, 10, 64)
	nanos, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if err != nil || seconds > maxProtoSeconds {
		return 0, "must be a duration of at most 315576000000 seconds"
	}
	const second = int64(time.Second)
	if seconds > (math.MaxInt64-nanos)/second {
		if negative {
			return math.MinInt64, ""
		}
		return math.MaxInt64, ""
	}
	if negative {
		return time.Duration(-seconds*second - nanos), ""
	}
	return time.Duration(seconds*second + nanos), ""
}

// codeNames holds the names of google.rpc.Code, at their numbers.
var codeNames = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
	"ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
	"ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
	"UNAUTHENTICATED",
}

// statusCode reads a status code, given as an integer or as its name in any
// case (A6). It reports false after a failure.
func (p *parser) statusCode(v value, path string) (codes.Code, bool) {
	switch {
	case v.kind == kindString:
		for code, name := range codeNames {
			// Equal lengths leave out the letters beyond ASCII that fold into it.
			if len(v.text) == len(name) && strings.EqualFold(v.text, name) {
				return codes.Code(code), true
			}
		}
		p.fail(v.from, path, "must be a gRPC status code, got %s%s", p.show(v), didYouMean(v.text, codeNames))
		return codes.OK, false
	case isInteger(v):
		if n, err := strconv.ParseUint(v.text, 10, 32); err == nil && n < uint64(len(codeNames)) {
			return codes.Code(n), true
		}
	}
	p.fail(v.from, path, "must be a gRPC status code, got %s", p.show(v))
	return codes.OK, false
}
