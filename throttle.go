package reprise

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"
)

// Throttler is a budget that calls share, so that their retries cannot
// multiply the load on a server that is failing already. [*Throttle] and
// [*AdaptiveThrottle] implement it.
//
// A Throttler is used by many calls at once and must be safe for concurrent
// use; its methods must not block. More methods are called if it has them:
//
//   - Declined() takes the place of Done for an attempt whose error the policy
//     does not retry: an answer that is neither a success nor a sign of
//     overload.
//   - Unsent(asked time.Time) says of an Admit at the time asked, or just after
//     it, that its attempt will not be made, and would not have been had it
//     been admitted: a limit of attempts or time forbids it, or the call was
//     cancelled in the pause before it.
//   - RefusalPause() time.Duration says how long a call that was refused
//     waits, within its context, before it returns, so that a caller that
//     loops over calls does not spin.
type Throttler interface {
	// Admit reports whether the attempt with this number, 1 for the first
	// of a call, may be sent. It may yet not be: the limits of attempts
	// and time come afterwards, as in grpc-go.
	Admit(attempt int) bool
	// Done takes the outcome of an attempt that was admitted: failed is
	// false if it succeeded, and true if it failed with an error that the
	// policy tries again (its Retryer says so, or its NonFatalCodes in a
	// hedged call), or with the server's word not to. Of a call without a
	// Retryer, attempts that end UNAVAILABLE have failed.
	//
	// As in grpc-go, a failure counts also if the call's context has ended
	// meanwhile, and so does the DEADLINE_EXCEEDED of that end itself, if
	// the policy tries it again. In contrast to grpc-go, what the caller's
	// cancellation made of an attempt never counts: it says nothing about
	// the server. An attempt that is not tried again, and of which is known
	// only that time ran out or that the caller cancelled, is told neither
	// to Done nor to Declined.
	Done(failed bool)
}

// admitFirst returns nil if the first attempt of a call may be made.
func admitFirst(ctx context.Context, cs *CallSettings) error {
	if ctx.Err() == nil && (cs.Throttle == nil || cs.Throttle.Admit(1)) {
		return nil
	}
	return refuseFirst(ctx, cs)
}

//go:noinline
func refuseFirst(ctx context.Context, cs *CallSettings) error {
	var h history
	var err *Error
	if ctx.Err() != nil {
		err = h.ended(ctx)
	} else {
		err = h.refused(ctx, cs.Throttle)
	}
	cs.observeEnd(ctx, err, &outcome{})
	return err
}

// refused is the error of a call that a throttle ends.
func (h *history) refused(ctx context.Context, t Throttler) *Error {
	if p, ok := t.(interface{ RefusalPause() time.Duration }); ok && Sleep(ctx, p.RefusalPause()) != nil {
		return h.ended(ctx)
	}
	return h.stopped(ReasonThrottled)
}

func succeeded(t Throttler) {
	if t != nil {
		t.Done(false)
	}
}

// countFailure tells the throttle of an attempt that failed with err. counts is
// whether the policy or the server's advice holds it for a failure of the
// server.
func (cs *CallSettings) countFailure(ctx context.Context, err error, counts bool) {
	if cs.Throttle == nil {
		return
	}
	over := spent(ctx) && isContextual(err)
	switch {
	case over && (!counts || errors.Is(ctx.Err(), context.Canceled)):
		return // no word of the server's
	case counts:
		cs.Throttle.Done(true)
	default:
		declined(cs.Throttle, err)
	}
}

// declined tells t that the server has answered, with err. The client's own
// clock is no server.
func declined(t Throttler, err error) {
	d, ok := t.(interface{ Declined() })
	if !ok {
		return
	}
	if _, cut := errors.AsType[*AttemptTimeoutError](err); !cut {
		d.Declined()
	}
}

func unsent(t Throttler, asked time.Time) {
	if u, ok := t.(interface{ Unsent(asked time.Time) }); ok {
		u.Unsent(asked)
	}
}

// Throttle is the retry throttling of gRPC A6: a bucket of tokens that
// failures empty and successes fill. It starts full. Each failure takes one
// token, each success adds the token ratio, and retries are sent only while
// the bucket is more than half full. First attempts are always sent.
//
// Use one Throttle for each server name, and share it among the calls and
// goroutines that talk to that server. Its methods take no lock. The zero
// value is a Throttle of 10 tokens with ratio 0.1. A Throttle must not be
// copied after first use.
type Throttle struct {
	size, ratio int64 // thousandths of a token; 0 stands for the default

	// missing is how many thousandths of a token the bucket lacks.
	missing atomic.Int64
}

const (
	milliTokens       = 1000
	defaultMaxTokens  = 10
	defaultTokenRatio = 0.1
	largestMaxTokens  = 1000
	smallestTokens    = 1.0 / milliTokens
)

// NewThrottle returns a full Throttle of maxTokens tokens, to which each
// success adds tokenRatio. Both are kept to three decimals, further ones are
// cut off, as A6 says. A maxTokens that is not positive, or NaN, stands for
// 10, one above 1000 for 1000, the bounds of A6; a tokenRatio below 0.001, or
// NaN, stands for 0.1.
func NewThrottle(maxTokens, tokenRatio float64) *Throttle {
	if !(maxTokens >= smallestTokens) {
		maxTokens = defaultMaxTokens
	}
	if !(tokenRatio >= smallestTokens) {
		tokenRatio = defaultTokenRatio
	}
	return &Throttle{
		size:  thousandths(min(maxTokens, largestMaxTokens)),
		ratio: thousandths(min(tokenRatio, largestMaxTokens)),
	}
}

// thousandths cuts v to three decimals. The nudge keeps decimals such as
// 0.57, whose float64 lies just below, from losing their last digit.
func thousandths(v float64) int64 {
	return int64(math.Floor(v*milliTokens + 1e-6))
}

// Admit reports whether an attempt may be sent: the first of a call always,
// a retry while more than half of the tokens are there.
func (t *Throttle) Admit(attempt int) bool {
	return attempt <= 1 || 2*t.missing.Load() < t.max()
}

// Done takes a token for a failure and adds the token ratio for a success.
func (t *Throttle) Done(failed bool) {
	if failed {
		t.add(milliTokens)
		return
	}
	if t.missing.Load() != 0 {
		t.add(-t.perSuccess())
	}
}

// Tokens returns how many tokens the bucket holds.
func (t *Throttle) Tokens() float64 {
	return float64(t.max()-t.missing.Load()) / milliTokens
}

func (t *Throttle) add(missing int64) {
	for {
		old := t.missing.Load()
		if t.missing.CompareAndSwap(old, max(0, min(old+missing, t.max()))) {
			return
		}
	}
}

func (t *Throttle) max() int64 {
	if t.size == 0 {
		return defaultMaxTokens * milliTokens
	}
	return t.size
}

func (t *Throttle) perSuccess() int64 {
	if t.ratio == 0 {
		return defaultTokenRatio * milliTokens
	}
	return t.ratio
}
