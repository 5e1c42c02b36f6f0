package reprise

import (
	"context"
	"time"
)

// shortest is the shortest pause that is worth a timer: any shorter one is over
// by the time that a timer, or the scheduler, could have been asked for it.
const shortest = 50 * time.Nanosecond

// Sleep pauses for d, or until ctx is done if that comes first. It returns
// nil after the whole pause and ctx.Err() otherwise. A context that is done
// already, or done when the pause ends, is always reported, whatever d is; a
// d of zero or less pauses not at all. A nil ctx gives an [*ArgumentError].
//
// A d below 50 ns counts as zero: it is over sooner than a timer is set.
func Sleep(ctx context.Context, d time.Duration) error {
	if ctx == nil {
		return &ArgumentError{Func: "Sleep", Problem: "the context is nil"}
	}
	if err := ctx.Err(); err != nil || d < shortest {
		return err
	}
	done := ctx.Done()
	if done == nil {
		time.Sleep(d)
		return ctx.Err()
	}
	t := time.NewTimer(d)
	select {
	case <-done:
		t.Stop()
	case <-t.C:
	}
	return ctx.Err()
}
