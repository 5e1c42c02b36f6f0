package reprise

import (
	"context"
	"time"
)

// shortest is the pause that is over by the time a timer, or the scheduler, could
// have been asked for it.
const shortest = 50 * time.Nanosecond

// Sleep pauses for d, or until ctx is done if that comes first. It returns
// nil after the whole pause and ctx.Err() otherwise. A context that is done
// already, or done when the pause ends, is always reported, whatever d is; a
// d of zero or less pauses not at all. A nil ctx gives an [*ArgumentError].
//
// Pauses below 50 ns are over when Sleep returns, without a timer.
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
