package reprise

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// pushbackTrailer is the trailer by which gRPC A6 lets a server say when to
// retry, in milliseconds.
const pushbackTrailer = "grpc-retry-pushback-ms"

// WithPushback makes the call heed what the server says about retrying. In
// order of precedence:
//
//   - The trailer grpc-retry-pushback-ms (gRPC A6). A number of milliseconds
//     that is not negative is waited exactly, and the backoff starts anew
//     after it. Any other value, and more than one, stops the call: the error
//     is an [*Error] with [ReasonPushback].
//   - The detail google.rpc.RetryInfo of the error's status. The pause is at
//     least its retry_delay; where the backoff's own pause is shorter, the
//     pause is retry_delay and up to a fifth more, at random, so that clients
//     that were sent away together do not come back together.
//
// Advice changes pauses only: an error that the Retryer does not retry is not
// retried, and the limits of attempts and time hold. For the trailer to be
// seen, the call must forward its CallSettings.GRPC, as bound calls and
// interceptors do. A bound unary stub must be done with its options when it
// returns, as gRPC's are: they are used again.
func WithPushback() CallOption {
	return rareOption(func(r *rareSettings) { r.pushback = true })
}

// advice is what a server said about retrying. The zero value is no advice.
type advice struct {
	stop    bool          // do not retry
	exactly time.Duration // with restart: wait this long, and restart the backoff
	restart bool
	atLeast time.Duration
}

// advice returns what the failed attempt brought along.
func (cs *CallSettings) advice(err error, trailer metadata.MD) advice {
	if cs.rare == nil || !cs.rare.pushback {
		return advice{}
	}
	switch values := trailer.Get(pushbackTrailer); len(values) {
	case 0:
		return advice{atLeast: retryDelay(err)}
	case 1:
		// A6: an ASCII-encoded signed 32-bit integer.
		ms, bad := strconv.ParseInt(values[0], 10, 32)
		if bad != nil || ms < 0 {
			return advice{stop: true}
		}
		return advice{restart: true, exactly: time.Duration(ms) * time.Millisecond}
	default:
		return advice{stop: true}
	}
}

// apply returns the pause that follows from the advice and the pause that the
// Retryer r chose.
func (a advice) apply(pause time.Duration, r Retryer) (time.Duration, PauseSource) {
	switch {
	case a.restart:
		resetPauses(r)
		return a.exactly, PauseTrailer
	case a.atLeast > pause:
		return a.spread(r), PauseRetryInfo
	}
	return pause, PauseBackoff
}

// spread draws a pause from atLeast and a fifth more.
func (a advice) spread(r Retryer) time.Duration {
	bo := backoffOf(r)
	if bo == nil {
		bo = new(Backoff)
	}
	return max(a.atLeast, a.atLeast+bo.uniform(a.atLeast/5)-1)
}

// retryDelay returns the retry_delay of the RetryInfo in the status of err, 0
// if there is none.
func retryDelay(err error) time.Duration {
	sc, ok := errors.AsType[statusCarrier](err)
	if !ok {
		return 0
	}
	st := sc.GRPCStatus()
	if st == nil {
		return 0
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return max(info.GetRetryDelay().AsDuration(), 0)
		}
	}
	return 0
}

// trailerSlot is where the gRPC library puts the trailer of one attempt.
type trailerSlot struct {
	md   metadata.MD
	opts []grpc.CallOption
}

var trailerSlots = sync.Pool{New: func() any { return new(trailerSlot) }}

// callForTrailer makes an attempt and returns its trailer too.
//
// A unary stub is done with its options when it returns, so its slot is used
// again. Any other call may have opened a stream, whose trailer is written when
// it ends: after a success nothing may look at it.
func callForTrailer(ctx context.Context, cs CallSettings, call APICall) (error, metadata.MD) { //nolint:staticcheck,revive // the error is the attempt's
	unary := cs.rare.unary
	var slot *trailerSlot
	if unary {
		slot = trailerSlots.Get().(*trailerSlot) //nolint:forcetypeassert // nothing else is put there
		slot.md = nil
	} else {
		slot = new(trailerSlot)
	}
	slot.opts = append(append(slot.opts[:0], cs.GRPC...), grpc.Trailer(&slot.md))
	cs.GRPC = slices.Clip(slot.opts)
	err := call(ctx, cs)
	if err == nil && !unary {
		return nil, nil
	}
	md := slot.md
	if unary {
		clear(slot.opts)
		trailerSlots.Put(slot)
	}
	return err, md
}
