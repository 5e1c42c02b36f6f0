package ending

import (
	"context"
	"errors"
)

// OfContext is the error of something that ended with its context: it matches
// what ctx.Err() says and the cause that was given. It is nil before
// ctx has ended.
func OfContext(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == nil || errors.Is(cause, err) {
		return cause
	}
	return &contextError{err: err, cause: cause}
}

type contextError struct{ err, cause error }

// Error tells the context's error and its cause.
func (e *contextError) Error() string { return e.err.Error() + ": " + e.cause.Error() }

// Unwrap returns both.
func (e *contextError) Unwrap() []error { return []error{e.err, e.cause} }
