package reprise

import (
	"context"
	"runtime"
	"time"
)

// shortest is the pause below which a timer would take many times longer to
// set and to fire than the pause itself.
const shortest = 50 * time.Nanosecond

// Sleep pauses for d, or until ctx is done if that comes first. It returns
// nil after the whole pause and ctx.Err() otherwise. A context that is done
// already, or done when the pause ends, is always reported, whatever d is; a
// d of zero or less pauses not at all. A nil ctx gives an [*ArgumentError].
//
// Pauses below 50 ns yield the processor once instead of setting a timer.
func Sleep(ctx context.Context, d time.Duration) error {
	if ctx == nil {
		return &ArgumentError{Func: "Sleep", Problem: "the context is nil"}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	done := ctx.Done()
	switch {
	case d <= 0:
		return nil
	case d < shortest:
		runtime.Gosched()
	case done == nil:
		time.Sleep(d)
	default:
		t := time.NewTimer(d)
		select {
		case <-done:
			t.Stop()
		case <-t.C:
		}
	}
	return ctx.Err()
}
