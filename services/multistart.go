package services

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// MultiStart starts services together and keeps those that it started, so
// that they can be closed together. The zero value is ready for use. It is not
// safe for concurrent use.
type MultiStart struct {
	started []StartClose
}

// Start starts the services in order. If one fails, or ctx ends before its
// turn, all that this MultiStart has started so far, in this call and in
// earlier ones, are closed in reverse; the one that failed is not. The error
// holds the reason first, then what closing returned. If a Start panics, they
// are closed too and the panic goes on.
func (m *MultiStart) Start(ctx context.Context, srvcs ...StartClose) (err error) {
	returned := false
	defer func() {
		if !returned {
			_ = m.Close() // the panic is what the caller is told
		}
	}()
	for i, s := range srvcs {
		if s == nil {
			err = fmt.Errorf("service %d of %d is nil", i+1, len(srvcs))
		} else if err = contextError(ctx); err == nil {
			err = s.Start(ctx)
		}
		if err != nil {
			err = m.CloseBecause(err)
			break
		}
		m.started = append(m.started, s)
	}
	returned = true
	return err
}

// Close closes the started services in reverse order, one after the other, and
// returns their errors joined in that order. A panic of a Close becomes a
// *[PanicError], so that the others are closed. Close forgets the services: a
// second Close closes nothing.
func (m *MultiStart) Close() (err error) {
	started := m.started
	m.started = nil
	var errs []error
	for _, s := range slices.Backward(started) {
		errs = append(errs, protect(s.Close))
	}
	return errors.Join(errs...)
}

// CloseBecause calls Close and returns reason, joined with what Close
// returned.
func (m *MultiStart) CloseBecause(reason error) (err error) {
	return errors.Join(reason, m.Close())
}

var errNilContext = errors.New("the context is nil")

// contextError returns nil while ctx lives, and then an error that matches
// both ctx.Err() and the cause.
func contextError(ctx context.Context) error {
	if ctx == nil {
		return errNilContext
	}
	err := ctx.Err()
	if cause := context.Cause(ctx); err != nil && !errors.Is(cause, err) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}
