package reprise

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// PanicError is what a hedged call panics with when one of its attempts has
// panicked, in a goroutine of its own; see [WithHedge]. Calls that are not
// hedged run in the caller's goroutine, and their panics pass through as they
// are.
type PanicError struct {
	// Value is what the attempt panicked with.
	Value any
	// Stack is the stack of the attempt's goroutine at the panic, as
	// [debug.Stack] formats it.
	Stack []byte
}

// Error returns the value and the stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("reprise: a hedged attempt panicked: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// death is how a goroutine ended that did not return.
type death struct {
	panicked *PanicError // nil after runtime.Goexit
}

// note takes what recover returned.
func (d *death) note(recovered any) {
	switch v := recovered.(type) {
	case nil:
	case *PanicError: // of a hedged call inside
		d.panicked = v
	default:
		d.panicked = &PanicError{Value: v, Stack: debug.Stack()}
	}
}

// repeat ends the calling goroutine in the same way.
func (d *death) repeat() {
	if d.panicked != nil {
		panic(d.panicked)
	}
	runtime.Goexit()
}
