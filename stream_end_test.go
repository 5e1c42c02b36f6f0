package reprise

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// played is a stream that receives what its list says; after its end it blocks
// until its context ends.
type played struct {
	grpc.ClientStream

	ctx    context.Context
	list   []error
	send   error
	closed int
}

func (p *played) SendMsg(any) error { return p.send }
func (p *played) CloseSend() error  { p.closed++; return nil }
func (p *played) RecvMsg(any) error {
	if len(p.list) == 0 {
		<-p.ctx.Done()
		return p.ctx.Err()
	}
	err := p.list[0]
	p.list = p.list[1:]
	return err
}

// play opens a replay whose attempts receive what lists say.
func play(t *testing.T, opts []CallOption, lists ...[]error) (*replay, *[]*played) {
	t.Helper()
	streams := new([]*played)
	opts = append([]CallOption{onDown(steady(time.Second)), WithAttemptTimeout(time.Minute)}, opts...)
	r, err := openReplay(t.Context(), resolved(opts...), "", func(ctx context.Context, cs CallSettings) (grpc.ClientStream, error) {
		p := &played{ctx: ctx, list: lists[cs.Attempt-1]}
		*streams = append(*streams, p)
		return p, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, streams
}

func TestTheContextOfAStreamEndsWithIt(t *testing.T) {
	down, end, message := errDown, io.EOF, error(nil)
	for name, test := range map[string]struct {
		lists [][]error
		live  bool // after the first message
	}{
		"an empty stream":              {[][]error{{end}}, false},
		"an empty stream, tried again": {[][]error{{down}, {end}}, false},
		"its end":                      {[][]error{{message, end}}, true},
		"its end, tried again":         {[][]error{{down}, {message, end}}, true},
		"a failure":                    {[][]error{{message, down}}, true},
		"a failure of all":             {[][]error{{errMissing}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, streams := play(t, nil, test.lists...)
				_ = r.RecvMsg(nil)
				last := (*streams)[len(*streams)-1]
				for i, p := range *streams {
					if live := p == last && test.live; (p.ctx.Err() == nil) != live {
						t.Errorf("after the first message, the context of stream %d: %v", i+1, p.ctx.Err())
					}
				}
				if test.live {
					_ = r.RecvMsg(nil)
				}
				if last.ctx.Err() == nil || r.ctx.Err() == nil {
					t.Error("the context outlives the stream")
				}
			})
		})
	}
}

func TestAStreamIsClosedForSendingOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, streams := play(t, nil, []error{nil})
		_ = r.SendMsg(1)
		_ = errors.Join(r.CloseSend(), r.CloseSend())
		if n := (*streams)[0].closed; n != 1 {
			t.Errorf("closed %d times", n)
		}
		// A bound stub sends and closes by itself.
		r, streams = play(t, nil, []error{errDown}, []error{nil})
		r.sent = true
		if err := r.RecvMsg(nil); err != nil || (*streams)[1].closed != 0 {
			t.Errorf("%v, closed %d times", err, (*streams)[1].closed)
		}
	})
}

func TestAStreamThatCannotBeSentToEndsOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for name, receiving := range map[string]bool{"while it is received from": true, "before": false} {
			d := new(diary)
			r, streams := play(t, []CallOption{WithObserver(d)}, nil)
			(*streams)[0].send = errMissing
			received := make(chan error, 1)
			if receiving {
				go func() { received <- r.RecvMsg(nil) }()
				_ = Sleep(t.Context(), time.Second)
			}
			if err := r.SendMsg(1); err != errMissing { //nolint:errorlint // the very error
				t.Errorf("%s: %v", name, err)
			}
			if receiving {
				if err := <-received; err == nil {
					t.Errorf("%s: received", name)
				}
			}
			if len(d.lines) != 2 {
				t.Errorf("%s: the observer heard %q", name, d.lines)
			}
			if r.attempt().timer.Stop() {
				t.Errorf("%s: the timer of the attempt goes on", name)
			}
		}
	})
}

func TestAStreamBesideAnErrorIsNone(t *testing.T) {
	t.Parallel()
	r, err := openReplay(t.Context(), CallSettings{}, "", func(context.Context, CallSettings) (grpc.ClientStream, error) {
		return (*played)(nil), errDown
	})
	if err != nil {
		t.Fatal(err)
	}
	if md, err := r.Header(); md != nil || err != errDown { //nolint:errorlint // the very error
		t.Errorf("%v, %v", md, err)
	}
	if err := r.RecvMsg(nil); err != errDown { //nolint:errorlint // the very error
		t.Error(err)
	}
}
