package services

import (
	"context"
	"errors"
)

// ErrStopped is the cause, in the sense of [context.Cause], of a context that
// ended because its [StopChan] was closed or because its service is closed. A
// loop that ends with an error asks errors.Is(context.Cause(ctx), ErrStopped)
// to tell "I was asked to stop" from "it broke".
var ErrStopped = errors.New("stopped")

// A StopChan signals by being closed that some work shall stop. Use
// [StopRChan] for a receive-only channel. The contexts made of a nil StopChan
// end with their parent only.
//
// A context made of a StopChan has a goroutine that waits for the channel and
// ends with the context: call its cancel function when the work is done.
type StopChan chan struct{}

// NewCtx returns a context that is cancelled when the channel is closed, with
// the cause [ErrStopped]. On a closed channel it is cancelled already.
func (s StopChan) NewCtx() (context.Context, context.CancelFunc) {
	return StopRChan((<-chan struct{})(s)).NewCtx()
}

// Ctx is NewCtx with a parent: the context ends also when ctx does.
func (s StopChan) Ctx(ctx context.Context) (context.Context, context.CancelFunc) {
	return StopRChan((<-chan struct{})(s)).Ctx(ctx)
}

// CtxCancel arranges for cancel to be called when the channel is closed and
// returns ctx and cancel as they are, so that a call of context.WithTimeout and
// the like can be wrapped in it. If the channel is closed already, cancel has
// been called when CtxCancel returns. A [context.CancelFunc] carries no cause,
// so the cause is context.Canceled; use Ctx for [ErrStopped].
func (s StopChan) CtxCancel(ctx context.Context, cancel context.CancelFunc) (context.Context, context.CancelFunc) {
	return StopRChan((<-chan struct{})(s)).CtxCancel(ctx, cancel)
}

// A StopRChan is a [StopChan] that can only be received from.
type StopRChan <-chan struct{}

// NewCtx returns a context that is cancelled when the channel is closed, with
// the cause [ErrStopped]. On a closed channel it is cancelled already.
func (s StopRChan) NewCtx() (context.Context, context.CancelFunc) {
	return s.Ctx(context.Background())
}

// Ctx is NewCtx with a parent: the context ends also when ctx does.
func (s StopRChan) Ctx(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	s.watch(ctx, func() { cancel(ErrStopped) })
	return ctx, func() { cancel(nil) }
}

// CtxCancel arranges for cancel to be called when the channel is closed and
// returns ctx and cancel as they are; see [StopChan.CtxCancel].
func (s StopRChan) CtxCancel(ctx context.Context, cancel context.CancelFunc) (context.Context, context.CancelFunc) {
	s.watch(ctx, cancel)
	return ctx, cancel
}

// watch calls stop when the channel is closed, unless ctx ends first.
func (s StopRChan) watch(ctx context.Context, stop func()) {
	select {
	case <-s:
		stop()
		return
	default:
	}
	if ctx.Err() != nil {
		return
	}
	go func() {
		select {
		case <-s:
			stop()
		case <-ctx.Done():
		}
	}()
}
