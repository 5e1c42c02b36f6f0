package reprise

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"
)

// replay is a server stream that is opened anew, in its first RecvMsg, until
// it has delivered a message. As with gRPC's own streams, one goroutine may
// receive while another sends.
type replay struct {
	ctx    context.Context //nolint:containedctx // the stream's own
	cancel context.CancelFunc
	first  context.Context //nolint:containedctx // of the first attempt, for its observer
	cs     CallSettings
	open   openFunc
	life   lifetime
	start  time.Time // of the first attempt, if it is measured

	received bool  // RecvMsg has returned; for the receiving goroutine alone
	over     error // what ended the call without an answer, likewise

	mu        sync.Mutex // not held while receiving
	current   *streamAttempt
	request   any   // what SendMsg was given, to be sent on each attempt
	sent      bool  // nothing is left to send
	receiving bool  // RecvMsg was called, and will tell the observer of the end
	unsent    error // what kept the request from being sent, which ended the call
	committed bool
	settled   chan struct{} // closed at the end of retrying; nil without any
}

// openReplay makes the first attempt. Its failure is kept for RecvMsg.
func openReplay(ctx context.Context, cs CallSettings, fn string, open openFunc) (*replay, error) {
	if cs.hedged() {
		return nil, errHedgeUnbound(fn)
	}
	ctx = cs.observedCall(ctx)
	cs.Attempt = 1
	life := cs.takeTimeouts()
	r := &replay{open: open, life: life, cs: cs}
	if life.whole > 0 {
		ctx, r.cancel = context.WithTimeout(ctx, life.whole)
	} else {
		ctx, r.cancel = context.WithCancel(ctx)
	}
	r.ctx = ctx
	defer func() {
		if r.current == nil {
			r.cancel()
		}
	}()
	if refused := admitFirst(ctx, &cs); refused != nil {
		return nil, refused
	}
	if cs.rare != nil && cs.rare.timed() {
		r.start = time.Now()
	}
	r.first = cs.observedAttempt(firstContext(ctx))
	r.current = life.open(r.first, cs, open)
	return r, nil
}

// SendMsg sends m, and keeps it to be sent again on later attempts. That the
// stream broke is for RecvMsg to find out. A message that cannot be sent at all
// ends the call, as it does with gRPC's streams: a generated client gives up such
// a stream without receiving.
func (r *replay) SendMsg(m any) error {
	abandoned, err := r.send(m)
	if err == nil {
		return nil
	}
	r.cancel()
	if abandoned {
		r.attempt().commit()
		only := outcome{err: err, start: r.start}
		r.cs.observeAttempt(r.first, &only)
		r.cs.observeEnd(r.ctx, err, &only)
		declined(r.cs.Throttle, err)
	}
	return err
}

// send is SendMsg on the current attempt. It reports whether its error found
// nobody receiving.
func (r *replay) send(m any) (abandoned bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unsent != nil {
		return false, r.unsent
	}
	r.request = m
	if r.current.stream == nil {
		return false, nil
	}
	r.unsent = withoutEOF(r.current.stream.SendMsg(m))
	return r.unsent != nil && !r.receiving, r.unsent
}

// CloseSend ends the sending.
func (r *replay) CloseSend() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sent {
		return nil
	}
	r.sent = true
	if r.current.stream == nil {
		return nil
	}
	return r.current.stream.CloseSend()
}

// Header waits for the headers and commits the stream to this attempt. While
// RecvMsg tries again, it waits for the attempt that stands.
func (r *replay) Header() (metadata.MD, error) {
	r.mu.Lock()
	r.committed = true // of no effect once retrying has begun
	settled := r.settled
	r.mu.Unlock()
	if settled != nil {
		<-settled
	}
	a := r.attempt()
	if a.stream == nil {
		return nil, a.err
	}
	return a.stream.Header()
}

// Trailer returns the trailer of the last attempt. It is to be called after
// RecvMsg has returned an error.
func (r *replay) Trailer() metadata.MD {
	if a := r.attempt(); a.stream != nil {
		return a.stream.Trailer()
	}
	return nil
}

// Context returns the context of the last attempt.
func (r *replay) Context() context.Context {
	if a := r.attempt(); a.stream != nil {
		return a.stream.Context()
	}
	return r.ctx
}

func (r *replay) attempt() *streamAttempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// RecvMsg receives the next message into m; see [ServerStream.Open].
func (r *replay) RecvMsg(m any) error {
	if r.over != nil {
		return r.over
	}
	a := r.receive()
	if a == nil {
		return r.over
	}
	err := a.err
	if a.stream != nil {
		err = a.stream.RecvMsg(m)
	}
	if !r.received {
		r.received = true
		return r.recvFirst(a, err, m)
	}
	if err != nil {
		err = a.fail(err)
		r.cancel()
	}
	return err
}

// receive returns the attempt to receive from, or nil if SendMsg has ended the
// call.
func (r *replay) receive() *streamAttempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unsent != nil && !r.receiving {
		r.over = r.unsent
		return nil
	}
	r.receiving = true
	return r.current
}

// retries reports whether a failure may be followed by another attempt. From
// then on Header waits.
func (r *replay) retries() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.committed {
		r.settled = make(chan struct{})
	}
	return !r.committed
}

// recvFirst takes the result of the first attempt, the one that Open began,
// and goes on until the server has answered or the call has ended.
func (r *replay) recvFirst(a *streamAttempt, err error, m any) error {
	live := false
	defer func() {
		r.commit()
		if !live {
			r.cancel()
		}
	}()
	first := outcome{start: r.start, err: a.received(err)}
	if first.err != nil && a.stream != nil && r.cs.rare != nil && r.cs.rare.pushback {
		first.trailer = a.stream.Trailer()
	}
	r.cs.observeAttempt(r.first, &first)
	if first.err == nil {
		r.cs.observeEnd(r.ctx, nil, &first)
		succeeded(r.cs.Throttle)
		live = err == nil
		return err
	}
	cs := r.cs
	if !r.retries() {
		cs.Retry = nil
	}
	var got error
	err = retry(r.ctx, cs, func(ctx context.Context, cs CallSettings) error {
		a = r.reopen(ctx, cs)
		if a.err != nil {
			return a.fail(a.err)
		}
		got = a.stream.RecvMsg(m)
		return a.received(got)
	}, first)
	if err != nil {
		r.over = err
		return err
	}
	live = got == nil
	return got
}

// commit ends the retrying, and frees what it would have needed.
func (r *replay) commit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.committed, r.request, r.open = true, nil, nil
	if r.settled != nil {
		close(r.settled)
	}
}

// reopen makes another attempt and sends on it what was sent before.
func (r *replay) reopen(ctx context.Context, cs CallSettings) *streamAttempt {
	a := r.life.open(ctx, cs, r.open)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = a
	if a.err == nil && r.request != nil {
		a.err = withoutEOF(a.stream.SendMsg(r.request))
	}
	if a.err == nil && r.request != nil && r.sent {
		a.err = a.stream.CloseSend()
	}
	return a
}

// withoutEOF drops the io.EOF by which SendMsg says that the stream has ended
// and that RecvMsg knows why.
func withoutEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
