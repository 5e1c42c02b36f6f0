package etcdcall

import (
	"errors"

	"google.golang.org/grpc/status"
)

// readError turns what a bound call returned into what the caller of a read
// gets: the plain rpctypes error if a server refused the read, as clientv3
// returns it, so that code comparing with == goes on working.
func readError(err error) error {
	if a, ok := err.(*attemptError); ok && a.refresh == nil { //nolint:errorlint // only the attempt's own error is replaced
		if etcd, ok := a.etcd(); ok {
			return etcd
		}
	}
	return err
}

// writeError does the same for a write that is sent again only if it was
// certainly not applied. So the last attempt alone decides, and if there was
// none, nothing was applied.
func writeError(method string, err error) error {
	if err == nil {
		return nil
	}
	last, attempted := errors.AsType[*attemptError](err)
	if attempted && last.Outcome() != NotApplied {
		return &AmbiguousError{Method: method, Err: err}
	}
	if plain := readError(err); OutcomeOf(plain) == NotApplied {
		return plain
	}
	return &notAppliedError{err: err}
}

// notAppliedError is a failed write that is known to have had no effect, where
// its error alone does not say so.
type notAppliedError struct{ err error }

// Error is the text of the error.
func (e *notAppliedError) Error() string { return e.err.Error() }

// Unwrap returns the error.
func (e *notAppliedError) Unwrap() error { return e.err }

// Outcome returns NotApplied.
func (e *notAppliedError) Outcome() Outcome { return NotApplied }

// GRPCStatus returns the status of the error.
func (e *notAppliedError) GRPCStatus() *status.Status { return status.Convert(e.err) }

// parcel carries an error through clientv3's request builders, whose
// ContextError replaces every error in which it finds a gRPC status or an
// rpctypes error by a bare one. It finds nothing in a parcel.
type parcel struct{ contents error }

// Error is never read by a user: unpack removes the parcel.
func (p *parcel) Error() string { return "etcdcall: error under way" }

func pack(err error) error {
	if err == nil {
		return nil
	}
	return &parcel{contents: err}
}

// unpack takes the error out of its parcel. Errors that clientv3 raised itself,
// such as one for an invalid sort option, come without one.
func unpack(err error) error {
	if p, ok := err.(*parcel); ok { //nolint:errorlint // clientv3 passes it through as it is
		return p.contents
	}
	return err
}
