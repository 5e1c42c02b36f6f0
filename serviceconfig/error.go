package serviceconfig

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Position is a place in the text of a service config. Lines and columns
// count from 1 and columns count bytes, as those of the go command do. The zero
// Position means that the place is not known, as in a [Config] that was not
// made by parsing.
type Position struct {
	File   string
	Line   int
	Column int
}

// IsValid reports whether the place is known.
func (p Position) IsValid() bool { return p.Line > 0 }

// String returns file:line:column, leaving out what is not known.
func (p Position) String() string {
	switch {
	case !p.IsValid():
		return p.File
	case p.File == "":
		return fmt.Sprintf("%d:%d", p.Line, p.Column)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// An Error is one defect of a service config. The errors of this package are
// made of them with [errors.Join], in the order of their positions; [Errors]
// takes them apart again.
type Error struct {
	// Position is where the value at fault begins, or, for a field that is
	// missing, the object that it is missing from.
	Position

	// Path leads from the top of the document to the value, for example
	// methodConfig[0].retryPolicy.maxAttempts. It is empty for the document
	// itself and for text that is not JSON.
	Path string

	// Message says what is wrong.
	Message string
}

// Error returns file:line:column: path: message, leaving out what is empty.
func (e *Error) Error() string {
	var b strings.Builder
	for _, part := range []string{e.Position.String(), e.Path} {
		if part != "" {
			b.WriteString(part)
			b.WriteString(": ")
		}
	}
	b.WriteString(e.Message)
	return b.String()
}

// Errors returns every [Error] that err is made of, in order. It returns nil
// if there is none.
func Errors(err error) []*Error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*Error
		for _, e := range joined.Unwrap() {
			all = append(all, Errors(e)...)
		}
		return all
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return []*Error{e}
	}
	return nil
}

// join makes one error of errs, ordered by position.
func join(errs []*Error) error {
	slices.SortStableFunc(errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	all := make([]error, len(errs))
	for i, e := range errs {
		all[i] = e
	}
	return errors.Join(all...)
}
