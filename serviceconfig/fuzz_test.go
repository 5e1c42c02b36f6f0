package serviceconfig_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/reprise-go/reprise/serviceconfig"
)

// FuzzParse checks for any document that Parse and encoding/json agree on what
// is JSON; that what ParseStrict takes, Parse takes as the same; that what both
// Parse and grpc-go take, they take for the same; and that each error stands
// within the document, on one line, in order.
func FuzzParse(f *testing.F) {
	for _, tt := range differential {
		f.Add([]byte(tt.doc))
	}
	oracle := grpcParser(f)
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := serviceconfig.Parse("f", doc)
		agreesOnSyntax(t, doc, err)
		checkErrors(t, doc, err)
		strict, strictErr := serviceconfig.ParseStrict("f", doc)
		checkErrors(t, doc, strictErr)
		if strictErr == nil && (err != nil || !reflect.DeepEqual(c, strict)) {
			t.Errorf("%q: ParseStrict takes %+v, Parse %+v, %v", doc, strict, c, err)
		}
		// The names of fields that grpc-go reads in any case are not ours, and
		// a string that is not UTF-8 is no JSON here.
		if theirs, theirErr := oracle(string(doc)); err == nil && theirErr == nil && exactNames(doc) {
			sameMethods(t, string(doc), c, theirs)
		}
	})
}

func checkErrors(t *testing.T, doc []byte, err error) {
	t.Helper()
	if (err != nil) != (len(serviceconfig.Errors(err)) > 0) {
		t.Errorf("%q: %v holds no Error", doc, err)
	}
	lines := bytes.Split(doc, []byte("\n"))
	var last serviceconfig.Position
	for _, e := range serviceconfig.Errors(err) {
		if e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > len(lines[e.Line-1])+1 {
			t.Errorf("%q: %v lies outside the document", doc, e)
		}
		if e.Line < last.Line || e.Line == last.Line && e.Column < last.Column {
			t.Errorf("%q: %v comes after %v", doc, e, last)
		}
		if strings.Contains(e.Error(), "\n") {
			t.Errorf("%q: %q has several lines", doc, e.Error())
		}
		last = e.Position
	}
}

// exactNames reports whether every known field name in doc is written with its
// own letters, so that case-insensitive readers see what we see.
func exactNames(doc []byte) bool {
	_, err := serviceconfig.ParseStrict("", doc)
	for _, e := range serviceconfig.Errors(err) {
		if strings.Contains(e.Message, "unknown field") {
			return false
		}
	}
	return true
}

func TestTheFuzzCheckerCatchesAFalseError(t *testing.T) {
	t.Parallel()
	caught := func(err error) bool {
		inner := &testing.T{}
		checkErrors(inner, []byte("{}\n"), err)
		return inner.Failed()
	}
	at := func(line, column int) *serviceconfig.Error {
		return &serviceconfig.Error{Position: serviceconfig.Position{Line: line, Column: column}}
	}
	if caught(errors.Join(at(1, 1), at(1, 3), at(2, 1))) {
		t.Error("caught errors that are in order")
	}
	for name, err := range map[string]error{
		"no Error":     errors.New("x"),
		"beyond lines": at(3, 1),
		"beyond line":  at(1, 4),
		"out of order": errors.Join(at(1, 2), at(1, 1)),
		"two lines":    &serviceconfig.Error{Position: at(1, 1).Position, Message: "a\nb"},
	} {
		if !caught(err) {
			t.Errorf("%s: not caught", name)
		}
	}
}
