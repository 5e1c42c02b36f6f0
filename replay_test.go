package reprise

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// failOpenings is an interceptor under which the first n streams of a
// connection fail to open.
func failOpenings(n int) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		if n--; n >= 0 {
			return nil, errDown
		}
		return streamer(ctx, desc, cc, method, opts...)
	}
}

func TestAStreamWhoseOpeningFailedIsSentInFullOnTheNextAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &server{stream: func(_ int, out grpc.ServerStreamingServer[output]) error {
			return out.Send(&output{})
		}}
		conn := serve(t, s, grpc.WithChainStreamInterceptor(
			StreamClientInterceptor(onDown(steady(time.Second))), failOpenings(1)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		stream, err := testpb.NewTestServiceClient(conn).StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestARequestIsClosedOnEveryAttempt(t *testing.T) {
	t.Parallel()
	closed := 0
	r, err := openReplay(t.Context(), resolved(onDown(steady(1))), "", func(_ context.Context, cs CallSettings) (grpc.ClientStream, error) {
		if cs.Attempt == 1 {
			return nil, errDown
		}
		return &closeCounter{closed: &closed}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.SendMsg(1), r.CloseSend(), r.RecvMsg(nil)); err != nil {
		t.Fatal(err)
	}
	if closed != 1 {
		t.Errorf("the stream that was opened was closed for sending %d times", closed)
	}
}

type closeCounter struct {
	grpc.ClientStream

	closed *int
}

func (c *closeCounter) SendMsg(any) error { return nil }
func (c *closeCounter) RecvMsg(any) error { return nil }
func (c *closeCounter) CloseSend() error  { *c.closed++; return nil }

func TestAStreamThatCouldNotBeOpenedKeepsItsError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ends := 0
		throttle := NewThrottle(100, 0.1)
		conn := serve(t, &server{}, grpc.WithChainStreamInterceptor(failOpenings(100)))
		u := NewServerStream(testpb.NewTestServiceClient(conn).StreamingOutputCall, onDown(steady(time.Second)), WithMaxAttempts(3),
			WithThrottle(throttle), WithObserver(ObserverFunc(func(_ context.Context, e Event) {
				if e.Kind == EventEnd {
					ends++
				}
			})))
		stream, err := u.Open(t.Context(), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		_, first := stream.Recv()
		stopped(t, first, ReasonAttempts)
		if _, again := stream.Recv(); again != first { //nolint:errorlint // the very error
			t.Errorf("asked again, the stream says %v, at first %v", again, first)
		}
		if ends != 1 || throttle.Tokens() != 97 {
			t.Errorf("%d ends, %v tokens, want 1 and 97", ends, throttle.Tokens())
		}
	})
}

func TestAStreamCommittedByHeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &server{stream: func(_ int, out grpc.ServerStreamingServer[output]) error {
			if err := out.SendHeader(nil); err != nil {
				return err
			}
			for range 3 {
				if err := out.Send(&output{}); err != nil {
					return err
				}
				if err := Sleep(out.Context(), 10*time.Second); err != nil {
					return err
				}
			}
			return status.Error(codes.Unavailable, "later")
		}}
		ends := 0
		adaptive := NewAdaptiveThrottle(AdaptiveConfig{K: 1, RefusalPause: -1})
		u := NewServerStream(testpb.NewTestServiceClient(serve(t, s)).StreamingOutputCall, onDown(steady(time.Second)),
			WithAttemptTimeout(time.Second), WithThrottle(adaptive), WithObserver(ObserverFunc(func(_ context.Context, e Event) {
				if e.Kind == EventEnd {
					ends++
				}
			})))
		stream, err := u.Open(t.Context(), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Header(); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if _, err := stream.Recv(); err != nil {
				t.Fatalf("message %d: %v", i+1, err)
			}
		}
		_, err = stream.Recv()
		wantCode(t, err, codes.Unavailable)
		if ends != 1 || s.calls() != 1 {
			t.Errorf("%d ends of %d attempts", ends, s.calls())
		}
		if p := adaptive.Rejection(); p != 0 {
			t.Errorf("the throttle did not hear of the answer: it rejects %v", p)
		}
	})
}

func TestHeaderOfAnOpeningThatFailedEndsTheCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &server{stream: func(int, grpc.ServerStreamingServer[output]) error { return nil }}
		conn := serve(t, s, grpc.WithChainStreamInterceptor(failOpenings(1)))
		u := NewServerStream(testpb.NewTestServiceClient(conn).StreamingOutputCall, onDown(steady(time.Second)))
		stream, err := u.Open(t.Context(), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Header(); err != errDown { //nolint:errorlint // the very error
			t.Errorf("Header: %v", err)
		}
		if _, err := stream.Recv(); err != errDown { //nolint:errorlint // the very error
			t.Errorf("Recv: %v", err)
		}
	})
}

func TestHeaderWaitsForTheAttemptThatStands(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &server{stream: func(n int, out grpc.ServerStreamingServer[output]) error {
			if n == 1 {
				return errDown
			}
			_ = grpc.SetHeader(out.Context(), map[string][]string{"answer": {"2"}})
			return out.Send(&output{})
		}}
		u := NewServerStream(testpb.NewTestServiceClient(serve(t, s)).StreamingOutputCall, onDown(steady(time.Minute)))
		stream, err := u.Open(t.Context(), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			_, err := stream.Recv()
			done <- err
		}()
		_ = Sleep(t.Context(), time.Second) // Recv pauses now
		md, err := stream.Header()
		if err != nil || len(md.Get("answer")) != 1 {
			t.Errorf("Header during the pause: %v, %v", md, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAMessageThatCannotBeSentEndsTheCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		opened := make(chan context.Context, 1)
		var events []Event
		throttle := NewAdaptiveThrottle(AdaptiveConfig{K: 1})
		conn := serve(t, &server{}, grpc.WithChainStreamInterceptor(
			StreamClientInterceptor(onDown(steady(time.Second)), WithThrottle(throttle),
				WithObserver(ObserverFunc(func(_ context.Context, e Event) { events = append(events, e) }))),
			func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
				opened <- ctx
				return streamer(ctx, desc, cc, method, opts...)
			}))
		_, err := testpb.NewTestServiceClient(conn).StreamingOutputCall(t.Context(),
			&testpb.StreamingOutputCallRequest{ResponseStatus: &testpb.EchoStatus{Message: "\xff is no UTF-8"}})
		wantCode(t, err, codes.Internal)
		if len(events) != 2 || events[0].Kind != EventAttempt || events[1].Kind != EventEnd || events[1].Attempt != 1 || events[1].Err == nil {
			t.Errorf("the observer heard %v", events)
		}
		if (<-opened).Err() == nil {
			t.Error("the context of a stream that nobody holds goes on")
		}
		if p := throttle.Rejection(); p != 0 {
			t.Errorf("the throttle rejects %v after a failure of the client's own", p)
		}
	})
}

func TestAStreamThatCouldNotBeSentToKeepsItsError(t *testing.T) {
	t.Parallel()
	r, err := openReplay(t.Context(), resolved(onDown(steady(1))), "", func(context.Context, CallSettings) (grpc.ClientStream, error) {
		return unsendable{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{r.SendMsg(1), r.SendMsg(1), r.RecvMsg(nil), r.RecvMsg(nil)} {
		if err != errDown { //nolint:errorlint // the very error
			t.Errorf("%v", err)
		}
	}
}

type unsendable struct{ grpc.ClientStream }

func (unsendable) SendMsg(any) error { return errDown }

// latecomer is a stream whose first message comes when its context has ended.
type latecomer struct {
	grpc.ClientStream

	ctx context.Context
	err error
}

func (l *latecomer) RecvMsg(any) error {
	<-l.ctx.Done()
	return l.err
}
func (l *latecomer) SendMsg(any) error { return nil }

func TestAFirstMessageThatComesAfterItsTimeIsNotDelivered(t *testing.T) {
	for name, test := range map[string]struct {
		got      error
		attempts int
	}{"a message": {nil, 2}, "the end of the stream": {io.EOF, 1}, "an answer": {errMissing, 1}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				attempts := 0
				policy := WithRetry(func() Retryer { return OnAttemptTimeout(OnUnavailable(steady(time.Second))) })
				r, err := openReplay(t.Context(), resolved(policy, WithAttemptTimeout(time.Minute), WithMaxAttempts(2)), "",
					func(ctx context.Context, _ CallSettings) (grpc.ClientStream, error) {
						attempts++
						return &latecomer{ctx: ctx, err: test.got}, nil
					})
				if err != nil {
					t.Fatal(err)
				}
				err = r.RecvMsg(nil)
				if test.got != nil {
					if err != test.got { //nolint:errorlint // as gRPC returns it
						t.Errorf("got %v", err)
					}
				} else if e, ok := errors.AsType[*AttemptTimeoutError](stopped(t, err, ReasonAttempts).Err); !ok || e.Timeout != time.Minute {
					t.Errorf("got %v", err)
				}
				if attempts != test.attempts {
					t.Errorf("%d attempts, want %d", attempts, test.attempts)
				}
			})
		})
	}
}

func TestAStreamThatOpensAfterItsTimeIsNotHandedOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		attempts := 0
		s := NewStream(func(ctx context.Context, _ ...grpc.CallOption) (grpc.ClientStream, error) {
			if attempts++; attempts == 1 {
				<-ctx.Done()
			}
			return &latecomer{ctx: ctx}, nil
		}, WithRetry(func() Retryer { return OnAttemptTimeout(nil) }), WithAttemptTimeout(time.Minute))
		stream, err := s.Open(t.Context())
		if err != nil || attempts != 2 {
			t.Fatalf("%v after %d attempts", err, attempts)
		}
		if err := stream.(*latecomer).ctx.Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestACommittedStreamKeepsNoRequest(t *testing.T) {
	t.Parallel()
	for _, got := range []error{nil, errMissing} {
		r, err := openReplay(t.Context(), resolved(onDown(steady(1))), "", func(context.Context, CallSettings) (grpc.ClientStream, error) {
			return &recorded{recv: got}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = r.SendMsg("request")
		if err := r.RecvMsg(nil); err != got { //nolint:errorlint // the very error
			t.Error(err)
		}
		if r.request != nil || r.open != nil {
			t.Error("the request is kept")
		}
	}
}

func TestAPanicLeavesNoStreamBehind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var opened []context.Context
		open := func(ctx context.Context, _ ...grpc.CallOption) (grpc.ClientStream, error) {
			opened = append(opened, ctx)
			panic("stub")
		}
		explosive := WithRetry(func() Retryer {
			return RetryerFunc(func(error) (time.Duration, bool) { panic("Retryer") })
		})
		r, err := openReplay(t.Context(), resolved(explosive), "", func(ctx context.Context, _ CallSettings) (grpc.ClientStream, error) {
			opened = append(opened, ctx)
			return nil, errDown
		})
		if err != nil {
			t.Fatal(err)
		}
		for name, f := range map[string]func(){
			"Retryer": func() { _ = r.RecvMsg(nil) },
			"stub": func() {
				_, _ = openReplay(t.Context(), CallSettings{}, "", func(ctx context.Context, _ CallSettings) (grpc.ClientStream, error) { return open(ctx) })
			},
			"bound stub": func() { _, _ = NewStream(open, WithTimeout(time.Hour)).Open(t.Context()) },
		} {
			if caught(f) == nil {
				t.Errorf("%s: no panic", name)
			}
		}
		if _, err := r.Header(); err != errDown { //nolint:errorlint // the very error
			t.Errorf("Header: %v", err)
		}
		for i, ctx := range opened {
			if ctx.Err() == nil {
				t.Errorf("the context of stream %d goes on", i)
			}
		}
		if len(opened) != 3 {
			t.Errorf("%d streams", len(opened))
		}
	})
}
