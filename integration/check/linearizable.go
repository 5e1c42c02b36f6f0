package check

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// ErrUndecided is returned when a history was not decided in the time given.
var ErrUndecided = errors.New("check: the history was not decided in time")

// A NotLinearizableError says that no order of the operations on a key
// explains what the clients were told.
type NotLinearizableError struct {
	Key string
	Ops []Op // all operations on that key that were looked at
}

// Error names the key.
func (e *NotLinearizableError) Error() string {
	return fmt.Sprintf("check: the %d operations on %q are not linearizable", len(e.Ops), e.Key)
}

// Linearizable says whether the operations are linearizable: whether each can
// be thought to happen at one instant between its call and its return, such
// that everybody was told the truth. It returns nil if they are, a
// [NotLinearizableError] for the first key for which they are not, or
// [ErrUndecided] when the time is up.
//
// Operations whose outcome is Unknown may happen at any time after their call,
// or never. Those whose outcome is NotApplied must not be seen by anybody.
// Keys are judged one by one, which is enough: a history is linearizable if
// and only if that of each object is (Herlihy and Wing, 1990).
func Linearizable(ops []Op, within time.Duration) error {
	deadline := time.Now().Add(within)
	for _, key := range keys(ops) {
		var history []porcupine.Operation
		var looked []Op
		for _, op := range ops {
			if op.Key != key || !counts(op) {
				continue
			}
			looked = append(looked, op)
			history = append(history, operation(op))
		}
		left := time.Until(deadline)
		if left <= 0 {
			return ErrUndecided
		}
		switch porcupine.CheckOperationsTimeout(register, history, left) {
		case porcupine.Illegal:
			return &NotLinearizableError{Key: key, Ops: looked}
		case porcupine.Unknown:
			return ErrUndecided
		}
	}
	return nil
}

func keys(ops []Op) []string {
	var kk []string
	for _, op := range ops {
		kk = append(kk, op.Key)
	}
	slices.Sort(kk)
	return slices.Compact(kk)
}

// counts tells whether an operation says anything: a read without an answer
// does not, and a write that did not happen is caught by whoever reads it.
func counts(op Op) bool {
	return op.Outcome == Applied || op.Outcome == Unknown && op.Kind != Get
}

func operation(op Op) porcupine.Operation {
	o := porcupine.Operation{ClientId: op.Client, Input: op, Output: op, Call: int64(op.Call), Return: int64(op.Return)}
	if op.Outcome == Unknown {
		o.Return = math.MaxInt64
	}
	return o
}

// register is one key of etcd. Its state is the value, or empty.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		value, op := state.(string), input.(Op) //nolint:forcetypeassert // they are what Init and operation made
		switch op.Kind {
		case Get:
			return op.Got == value, value
		case Put:
			return true, op.Value
		case Delete:
			return true, ""
		case CAS:
			return stepCAS(value, op)
		default:
			return false, value
		}
	},
}

func stepCAS(value string, op Op) (bool, any) {
	next := value
	if value == op.Old {
		next = op.Value
	}
	return op.Outcome == Unknown || op.Swapped == (value == op.Old), next
}
