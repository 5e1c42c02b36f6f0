package serviceconfig

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// maxDepth bounds how deeply arrays and objects may nest, so that a hostile
// document cannot exhaust the stack.
const maxDepth = 1000

type kind int

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

// String returns the kind with its article, as messages use it.
func (k kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "an array", "an object"}[k]
}

// A value is a JSON value that knows where it stands.
type value struct {
	kind     kind
	from, to int // the bytes of the document that it was read from

	// text is the literal of a number or a boolean and the decoded text of a
	// string.
	text    string
	elems   []value
	members []member
}

type member struct {
	key   string
	from  int
	value value
}

// A syntaxError says why a document is not JSON.
type syntaxError struct {
	at  int
	msg string
}

func (e *syntaxError) Error() string { return e.msg }

// A reader reads one document. encoding/json gives neither positions nor
// duplicate members, hence a reader of our own.
type reader struct {
	data  []byte
	at    int
	depth int
}

// readJSON reads the single value that data must hold.
func readJSON(data []byte) (value, *syntaxError) {
	r := reader{data: data}
	v, err := r.value()
	if err != nil {
		return value{}, err
	}
	if r.space(); r.at < len(data) {
		return value{}, r.fail("unexpected %s after the end of the document", r.next())
	}
	return v, nil
}

func (r *reader) fail(format string, args ...any) *syntaxError {
	return &syntaxError{at: r.at, msg: fmt.Sprintf(format, args...)}
}

// next describes the character at the reading position.
func (r *reader) next() string {
	if r.at >= len(r.data) {
		return "end of the document"
	}
	c, size := utf8.DecodeRune(r.data[r.at:])
	if c == utf8.RuneError && size <= 1 {
		return fmt.Sprintf("byte 0x%02x", r.data[r.at])
	}
	return fmt.Sprintf("character %q", c)
}

func (r *reader) space() {
	for r.at < len(r.data) {
		switch r.data[r.at] {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return
		}
	}
}

// peek returns the byte at the reading position, 0 at the end.
func (r *reader) peek() byte {
	if r.at < len(r.data) {
		return r.data[r.at]
	}
	return 0
}

func (r *reader) value() (value, *syntaxError) {
	r.space()
	v := value{from: r.at}
	var err *syntaxError
	switch c := r.peek(); {
	case c == '{':
		v.kind = kindObject
		v.members, err = r.object()
	case c == '[':
		v.kind = kindArray
		v.elems, err = r.array()
	case c == '"':
		v.kind = kindString
		v.text, err = r.string()
	case c == '-' || c >= '0' && c <= '9':
		v.kind = kindNumber
		v.text, err = r.number()
	default:
		v.kind, v.text, err = r.literal()
	}
	v.to = r.at
	return v, err
}

func (r *reader) literal() (kind, string, *syntaxError) {
	for _, l := range []struct {
		word string
		kind kind
	}{{"null", kindNull}, {"true", kindBool}, {"false", kindBool}} {
		if end := r.at + len(l.word); end <= len(r.data) && string(r.data[r.at:end]) == l.word {
			r.at = end
			return l.kind, l.word, nil
		}
	}
	return kindNull, "", r.fail("expected a JSON value, found %s", r.next())
}

func (r *reader) object() ([]member, *syntaxError) {
	var members []member
	err := r.list('}', func() *syntaxError {
		m := member{from: r.at}
		if r.peek() != '"' {
			return r.fail("expected a field name in quotes, found %s", r.next())
		}
		var err *syntaxError
		if m.key, err = r.string(); err != nil {
			return err
		}
		if r.space(); r.peek() != ':' {
			return r.fail("expected ':' after the field name, found %s", r.next())
		}
		r.at++
		m.value, err = r.value()
		members = append(members, m)
		return err
	})
	return members, err
}

func (r *reader) array() ([]value, *syntaxError) {
	var elems []value
	err := r.list(']', func() *syntaxError {
		v, err := r.value()
		elems = append(elems, v)
		return err
	})
	return elems, err
}

// list reads from an opening bracket to end, calling item at each item.
func (r *reader) list(end byte, item func() *syntaxError) *syntaxError {
	if r.depth++; r.depth > maxDepth {
		return r.fail("nested more than %d levels deep", maxDepth)
	}
	defer func() { r.depth-- }()
	r.at++
	if r.space(); r.peek() == end {
		r.at++
		return nil
	}
	for {
		r.space()
		if err := item(); err != nil {
			return err
		}
		r.space()
		switch r.peek() {
		case end:
			r.at++
			return nil
		case ',':
			r.at++
		default:
			return r.fail("expected ',' or '%c', found %s", end, r.next())
		}
		if r.space(); r.peek() == end {
			return r.fail("a comma must not stand before '%c'", end)
		}
	}
}

func (r *reader) string() (string, *syntaxError) {
	from := r.at
	for r.at++; r.at < len(r.data); {
		switch c := r.data[r.at]; {
		case c == '"':
			r.at++
			var s string
			if err := json.Unmarshal(r.data[from:r.at], &s); err != nil {
				return "", &syntaxError{at: from, msg: "invalid escape in the string"}
			}
			return s, nil
		case c < ' ':
			return "", r.fail("a control character must be escaped in a string, found %s", r.next())
		case c == '\\':
			r.at += 2
		case c < utf8.RuneSelf:
			r.at++
		default:
			ch, size := utf8.DecodeRune(r.data[r.at:])
			if ch == utf8.RuneError && size == 1 {
				return "", r.fail("a string must be UTF-8, found %s", r.next())
			}
			r.at += size
		}
	}
	return "", &syntaxError{at: from, msg: "the string does not end"}
}

func (r *reader) number() (string, *syntaxError) {
	from := r.at
	if r.peek() == '-' {
		r.at++
	}
	if r.peek() == '0' {
		r.at++
	} else if err := r.digits(); err != nil {
		return "", err
	}
	if r.peek() == '.' {
		r.at++
		if err := r.digits(); err != nil {
			return "", err
		}
	}
	if c := r.peek(); c == 'e' || c == 'E' {
		r.at++
		if c := r.peek(); c == '+' || c == '-' {
			r.at++
		}
		if err := r.digits(); err != nil {
			return "", err
		}
	}
	return string(r.data[from:r.at]), nil
}

func (r *reader) digits() *syntaxError {
	from := r.at
	for c := r.peek(); c >= '0' && c <= '9'; c = r.peek() {
		r.at++
	}
	if r.at == from {
		return r.fail("expected a digit, found %s", r.next())
	}
	return nil
}
