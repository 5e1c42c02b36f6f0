package serviceconfig_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reprise-go/reprise/serviceconfig"
)

// isSyntax reports whether err says that a document is not JSON: such an
// error stands alone, without a path.
func isSyntax(err error) bool {
	all := serviceconfig.Errors(err)
	return len(all) == 1 && all[0].Path == "" && !strings.HasPrefix(all[0].Message, "must be an object")
}

func TestWhatIsNotJSONIsReportedWhereItBreaks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ doc, want string }{
		{``, `1:1: expected a JSON value, found end of the document`},
		{`{}{}`, `1:3: unexpected character '{' after the end of the document`},
		{`{"a" 1}`, `1:6: expected ':' after the field name, found character '1'`},
		{`{a: 1}`, `1:2: expected a field name in quotes, found character 'a'`},
		{`{"a": 1,}`, `1:9: a comma must not stand before '}'`},
		{`[1 2]`, `1:4: expected ',' or ']', found character '2'`},
		{`{"a": nul}`, `1:7: expected a JSON value, found character 'n'`},
		{`{"a": 01}`, `1:8: expected ',' or '}', found character '1'`},
		{`{"a": .5}`, `1:7: expected a JSON value, found character '.'`},
		{`{"a": 5.}`, `1:9: expected a digit, found character '}'`},
		{`{"a": -}`, `1:8: expected a digit, found character '}'`},
		{`{"a": 1e+}`, `1:10: expected a digit, found character '}'`},
		{`{"a": "b`, `1:7: the string does not end`},
		{`{"a": "\x"}`, `1:7: invalid escape in the string`},
		{"{\"a\": \"\n\"}", `1:8: a control character must be escaped in a string, found character '\n'`},
		{"{\"a\": \"\xff\"}", `1:8: a string must be UTF-8, found byte 0xff`},
		{"{\n\n  \"a\" }", `3:7: expected ':' after the field name, found character '}'`},
		{strings.Repeat("[", 1001), `1:1001: nested more than 1000 levels deep`},
		{"\ufeff{}", `1:1: expected a JSON value, found character '\ufeff'`},
	} {
		_, err := serviceconfig.Parse("", []byte(tt.doc))
		if err == nil || err.Error() != tt.want || !isSyntax(err) {
			t.Errorf("%.40q:\ngot  %v\nwant %s", tt.doc, err, tt.want)
		}
	}
}

// agreesOnSyntax compares with encoding/json, which nests deeper and takes
// strings that are not UTF-8.
func agreesOnSyntax(t *testing.T, doc []byte, err error) {
	t.Helper()
	if !utf8.Valid(doc) || bytes.Count(doc, []byte("["))+bytes.Count(doc, []byte("{")) > 1000 {
		return
	}
	if got, want := isSyntax(err), !json.Valid(doc); got != want {
		t.Errorf("%q: not JSON: got %v (%v), encoding/json says %v", doc, got, err, want)
	}
}

func TestDurationsAreThoseOfProtocolBuffersWithJSONNumbers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want time.Duration // 0 if invalid
		only string        // why the JSON form of Protocol Buffers in Go disagrees
	}{
		{"1s", time.Second, ""},
		{"0.1s", 100 * time.Millisecond, ""},
		{"1.000000001s", 1000000001, ""},
		{"1.0000000001s", 0, ""},
		{"10.50s", 10500 * time.Millisecond, ""},
		{"9223372036.854775807s", 1<<63 - 1, ""},
		{"9223372036.854775808s", 1<<63 - 1, ""},
		{"315576000000s", 1<<63 - 1, ""},
		{"315576000000.999999999s", 1<<63 - 1, ""},
		{"-315576000000.5s", 0, ""},
		{"315576000001s", 0, ""},
		{"99999999999999999999s", 0, ""},
		{"1", 0, ""},
		{"1m", 0, ""},
		{"1ms", 0, ""},
		{"1 s", 0, ""},
		{" 1s", 0, ""},
		{"s", 0, ""},
		{"-s", 0, ""},
		{"", 0, ""},
		{".s", 0, "takes a point for a number"},
		{"1e1s", 0, ""},
		{"1.5e1s", 0, ""},
		{"1.5.5s", 0, ""},
		{"1.+5s", 0, ""},
		{"--1s", 0, ""},
		{"1_0s", 0, ""},
		{"0x1s", 0, ""},
		{"infs", 0, ""},
		{"01s", 0, ""},
		{"+1s", 0, "takes a sign that a JSON number has not"},
		{".5s", 0, "takes a fraction without a whole part"},
		{"1.s", 0, "takes a point without a fraction"},
	} {
		c, err := serviceconfig.Parse("", []byte(entry(`"timeout":"`+tt.text+`"`)))
		var got time.Duration
		if err == nil {
			got = c.Methods[0].Timeout
		}
		if got != tt.want {
			t.Errorf("%q: got %v (%v), want %v", tt.text, got, err, tt.want)
		}
		var d durationpb.Duration
		other := protojson.Unmarshal([]byte(`"`+tt.text+`"`), &d)
		if got == 0 && other == nil && d.AsDuration() < 0 {
			continue // a timeout is also refused for being negative
		}
		if (other == nil) != (err == nil) && tt.only == "" {
			t.Errorf("%q: got error %v, protojson %v", tt.text, err, other)
		}
		if tt.only != "" && (other == nil) == (err == nil) {
			t.Errorf("%q: agrees with protojson, which it is said not to: %s", tt.text, tt.only)
		}
		if err == nil && other == nil && got != d.AsDuration() {
			t.Errorf("%q: got %v, protojson %v", tt.text, got, d.AsDuration())
		}
	}
}
