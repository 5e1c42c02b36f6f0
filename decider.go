package reprise

import (
	"context"
	"time"

	"google.golang.org/grpc/metadata"
)

// Decider answers the questions of [Invoke] for a loop that is not its own,
// such as that of a generated client of another library: whether one call goes
// on after a failure, and after which pause. Where you write the loop, write
// none and use Invoke.
//
// A Decider belongs to one call and is not safe for concurrent use.
type Decider struct {
	loop    loop
	cs      CallSettings
	retryer Retryer
	start   time.Time
}

// NewDecider returns the Decider of a call that begins now. Options that ask
// for more than decisions give an [*ArgumentError]: [WithHedge],
// [WithAttemptTimeout] and [WithObserver]. The bound of [WithTimeout] is kept
// between attempts; to cut an attempt short is up to the loop.
func NewDecider(opts ...CallOption) (*Decider, error) {
	now := time.Now()
	d := &Decider{start: now, loop: loop{began: now}}
	d.cs.apply(opts)
	d.cs.Attempt = 1
	if r := d.cs.rare; r != nil && (r.hedge != nil || r.attemptTimeout > 0 || r.observer != nil) {
		return nil, &ArgumentError{
			Func:    "NewDecider",
			Problem: "WithHedge, WithAttemptTimeout and WithObserver need a call that Reprise makes",
		}
	}
	if d.cs.Retry != nil {
		d.retryer = d.cs.Retry()
	}
	return d, nil
}

// Failed takes the error of the attempt that has ended, and its trailer if it
// is known. It returns the pause after which to try again; or else the error
// that Invoke would return: err itself or an [*Error]. A nil ctx or err gives an
// [*ArgumentError].
func (d *Decider) Failed(ctx context.Context, err error, trailer metadata.MD) (time.Duration, error) {
	switch {
	case ctx == nil:
		return 0, &ArgumentError{Func: "Decider.Failed", Problem: "the context is nil"}
	case err == nil:
		return 0, &ArgumentError{Func: "Decider.Failed", Problem: "the error is nil"}
	}
	if d.cs.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, d.loop.began.Add(d.cs.Timeout))
		defer cancel()
	}
	last := outcome{err: err, start: d.start, trailer: trailer}
	if d.retryer == nil {
		return 0, notRetried(ctx, &d.cs, &last)
	}
	pause, ok := d.retryer.Retry(err)
	d.loop.now = time.Now()
	d.loop.record(d.cs.Attempt, &last, d.loop.now, max(pause, 0))
	if err := d.loop.decide(ctx, &d.cs, d.retryer, ok, trailer); err != nil {
		return 0, err
	}
	pause = d.loop.last().Pause
	d.cs.Attempt++
	d.start = d.loop.now.Add(pause)
	return pause, nil
}

// Succeeded tells the throttle of the call that an attempt succeeded.
func (d *Decider) Succeeded() { succeeded(d.cs.Throttle) }
