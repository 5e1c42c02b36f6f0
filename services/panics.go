package services

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// PanicError is a panic of a service's own code, recovered and handed on as an
// error. If the panic's value is an error, errors.Is and errors.As find it.
type PanicError struct {
	Value any    // what was given to panic
	Stack []byte // the stack of the goroutine that panicked, as debug.Stack prints it
}

// Error says the value, without the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the value if it is an error, and nil otherwise.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

var errUnreturned = errors.New("ended its goroutine without returning")

// protect runs fn and turns a panic into a *[PanicError].
func protect(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return fn()
}
