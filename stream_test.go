package reprise

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type output = testpb.StreamingOutputCallResponse

// opener opens a server stream: by a bound call or through an interceptor.
type opener func(ctx context.Context, opts ...CallOption) (grpc.ServerStreamingClient[output], error)

// eachOpener runs f for both ways to a stream under a policy.
func eachOpener(t *testing.T, s func() *server, f func(t *testing.T, s *server, open opener), opts ...CallOption) {
	t.Helper()
	req := &testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: []byte("request")}}
	t.Run("bound", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s := s()
			bound := NewServerStream(testpb.NewTestServiceClient(serve(t, s)).StreamingOutputCall, opts...)
			f(t, s, func(ctx context.Context, opts ...CallOption) (grpc.ServerStreamingClient[output], error) {
				return bound.Open(ctx, req, opts...)
			})
		})
	})
	t.Run("intercepted", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s := s()
			client := testpb.NewTestServiceClient(serve(t, s, grpc.WithStreamInterceptor(StreamClientInterceptor(opts...))))
			f(t, s, func(ctx context.Context, opts ...CallOption) (grpc.ServerStreamingClient[output], error) {
				return client.StreamingOutputCall(ctx, req, PerCall(opts...))
			})
		})
	})
}

func message(text string) *output {
	return &output{Payload: &testpb.Payload{Body: []byte(text)}}
}

// drain receives to the end of the stream.
func drain(s grpc.ServerStreamingClient[output]) (texts string, err error) {
	var list []string
	for {
		m, err := s.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return strings.Join(list, " "), err
		}
		list = append(list, string(m.GetPayload().GetBody()))
	}
}

// flaky streams fail on the calls of a list, after so many messages, and
// otherwise send three.
func flaky(after map[int]int) func() *server {
	return func() *server {
		return &server{stream: func(n int, out grpc.ServerStreamingServer[output]) error {
			limit, fails := after[n]
			_ = out.SetHeader(metadata.Pairs("answer", named(n).GetUsername()))
			out.SetTrailer(metadata.Pairs("answer", named(n).GetUsername()))
			for i, text := range []string{"a", "b", "c"} {
				if fails && i == limit {
					return errDown
				}
				if err := out.Send(message(text)); err != nil {
					return err
				}
			}
			return nil
		}}
	}
}

func TestServerStreamIsOpenedAnewUntilItsFirstMessage(t *testing.T) {
	t.Parallel()
	eachOpener(t, flaky(map[int]int{1: 0, 2: 0}), func(t *testing.T, s *server, open opener) {
		stream, err := open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := drain(stream)
		if got != "a b c" || err != nil {
			t.Errorf("received %q, %v", got, err)
		}
		if want := []time.Duration{0, time.Second, 2 * time.Second}; !slices.Equal(s.times(), want) {
			t.Errorf("attempts at %v, want %v", s.times(), want)
		}
		if want := []string{"-", "1", "2"}; !slices.Equal(s.previous(), want) {
			t.Errorf("attempt headers %q, want %q", s.previous(), want)
		}
		header, err := stream.Header()
		if err != nil || !slices.Equal(header.Get("answer"), []string{"3"}) || !slices.Equal(stream.Trailer().Get("answer"), []string{"3"}) {
			t.Errorf("header %v, %v, trailer %v", header, err, stream.Trailer())
		}
	}, onDown(steady(time.Second)))
}

// A retry that ignores what was received delivers "a b a b c" here.
func TestServerStreamNeverDeliversAMessageTwice(t *testing.T) {
	t.Parallel()
	eachOpener(t, flaky(map[int]int{1: 2}), func(t *testing.T, s *server, open opener) {
		stream, err := open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := drain(stream)
		if got != "a b" || s.calls() != 1 {
			t.Errorf("received %q over %d attempts", got, s.calls())
		}
		wantCode(t, err, codes.Unavailable)
		if _, ok := errors.AsType[*Error](err); ok {
			t.Errorf("the error after a message is %T, want the stream's own", err)
		}
	}, onDown(steady(time.Second)))
}

func TestServerStreamWithoutMessagesIsASuccess(t *testing.T) {
	t.Parallel()
	throttle := NewThrottle(10, 0.1)
	throttle.Done(true)
	empty := func() *server {
		return &server{stream: func(n int, _ grpc.ServerStreamingServer[output]) error {
			if n == 1 {
				return errDown
			}
			return nil
		}}
	}
	eachOpener(t, empty, func(t *testing.T, s *server, open opener) {
		stream, err := open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := drain(stream); got != "" || err != nil || s.calls() != 2 {
			t.Errorf("received %q, %v over %d attempts", got, err, s.calls())
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("Recv after the end: %v", err)
		}
	}, onDown(steady(time.Second)), WithThrottle(throttle))
}

func TestTheEndOfAStreamIsNoFailureToRetry(t *testing.T) {
	t.Parallel()
	always := WithRetry(func() Retryer { return OnErrorFunc(steady(time.Second), func(error) bool { return true }) })
	empty := func() *server {
		return &server{stream: func(n int, _ grpc.ServerStreamingServer[output]) error {
			if n%2 == 1 {
				return errDown
			}
			return nil
		}}
	}
	eachOpener(t, empty, func(t *testing.T, s *server, open opener) {
		stream, err := open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != io.EOF || s.calls() != 2 { //nolint:errorlint // as gRPC returns it
			t.Errorf("%v after %d attempts", err, s.calls())
		}
		stream, err = open(t.Context(), WithRetry(nil), WithMaxAttempts(1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
			t.Error(err)
		}
		stream, err = open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != io.EOF || s.calls() != 4 { //nolint:errorlint // as gRPC returns it
			t.Errorf("%v after %d attempts", err, s.calls())
		}
	}, always)
}

func TestServerStreamStopsAsInvokeDoes(t *testing.T) {
	t.Parallel()
	always := func() *server {
		return &server{stream: func(int, grpc.ServerStreamingServer[output]) error { return errDown }}
	}
	eachOpener(t, always, func(t *testing.T, s *server, open opener) {
		for _, test := range []struct {
			opt    CallOption
			reason Reason
			calls  int
		}{
			{WithMaxAttempts(3), ReasonAttempts, 3},
			{WithTimeout(2500 * time.Millisecond), ReasonDeadline, 3},
			{WithMaxElapsed(1500 * time.Millisecond), ReasonElapsed, 2},
			{WithThrottle(NewThrottle(4, 0.1)), ReasonThrottled, 2},
		} {
			before := s.calls()
			stream, err := open(t.Context(), test.opt)
			if err != nil {
				t.Fatal(err)
			}
			_, err = stream.Recv()
			e := stopped(t, err, test.reason)
			if n := s.calls() - before; n != test.calls || e.Made != n {
				t.Errorf("%v: %d attempts, Made = %d, want %d", test.reason, n, e.Made, test.calls)
			}
			if _, again := stream.Recv(); again == nil {
				t.Error("a dead stream delivers")
			}
		}
		stream, err := open(t.Context(), WithRetry(nil))
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		if _, ok := errors.AsType[*Error](err); ok || status.Code(err) != codes.Unavailable {
			t.Errorf("without a Retryer: %v", err)
		}
	}, onDown(steady(time.Second)))
}

func TestServerStreamHeedsPushback(t *testing.T) {
	t.Parallel()
	pushed := func() *server {
		return &server{stream: func(n int, out grpc.ServerStreamingServer[output]) error {
			if n < 3 {
				out.SetTrailer(metadata.Pairs(pushbackTrailer, "250"))
				return errDown
			}
			out.SetTrailer(metadata.Pairs(pushbackTrailer, "-1"))
			return errDown
		}}
	}
	eachOpener(t, pushed, func(t *testing.T, s *server, open opener) {
		stream, err := open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		stopped(t, err, ReasonPushback)
		if want := []time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond}; !slices.Equal(s.times(), want) {
			t.Errorf("attempts at %v, want %v", s.times(), want)
		}
	}, onDown(steady(time.Hour)), WithPushback())
}

func TestTimeoutBoundsTheWholeLifeOfAStream(t *testing.T) {
	t.Parallel()
	endless := func() *server {
		return &server{stream: func(_ int, out grpc.ServerStreamingServer[output]) error {
			for {
				if err := out.Send(message("x")); err != nil {
					return err
				}
				if err := Sleep(out.Context(), time.Second); err != nil {
					return err
				}
			}
		}}
	}
	eachOpener(t, endless, func(t *testing.T, _ *server, open opener) {
		begin := time.Now()
		stream, err := open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := drain(stream)
		wantElapsed(t, begin, 3500*time.Millisecond)
		wantCode(t, err, codes.DeadlineExceeded)
		if got != "x x x x" {
			t.Errorf("received %q", got)
		}
	}, WithTimeout(3500*time.Millisecond))
}

func TestAttemptTimeoutBoundsTheTimeToTheFirstMessage(t *testing.T) {
	t.Parallel()
	slowStart := func() *server {
		return &server{stream: func(n int, out grpc.ServerStreamingServer[output]) error {
			if n == 1 {
				<-out.Context().Done()
				return status.FromContextError(out.Context().Err()).Err()
			}
			for range 2 { // slower than an attempt's time, but begun
				if err := out.Send(message("x")); err != nil {
					return err
				}
				_ = Sleep(out.Context(), time.Minute)
			}
			return nil
		}}
	}
	eachOpener(t, slowStart, func(t *testing.T, s *server, open opener) {
		stream, err := open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := drain(stream); got != "x x" || err != nil {
			t.Errorf("received %q, %v", got, err)
		}
		if want := []time.Duration{0, 3 * time.Second}; !slices.Equal(s.times(), want) {
			t.Errorf("attempts at %v, want %v", s.times(), want)
		}
		// Not retried, it is told apart from the server's DEADLINE_EXCEEDED.
		s.mu.Lock()
		s.heads = nil
		s.mu.Unlock()
		stream, err = open(t.Context(), WithRetry(nil))
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		if e, ok := errors.AsType[*AttemptTimeoutError](err); !ok || e.Timeout != 2*time.Second {
			t.Errorf("got %v", err)
		}
	}, WithRetry(func() Retryer { return OnAttemptTimeout(OnUnavailable(steady(time.Second))) }), WithAttemptTimeout(2*time.Second))
}

func TestHeaderCommitsAStream(t *testing.T) {
	t.Parallel()
	headThenFail := func() *server {
		return &server{stream: func(_ int, out grpc.ServerStreamingServer[output]) error {
			_ = out.SendHeader(metadata.Pairs("answer", "1"))
			return errDown
		}}
	}
	eachOpener(t, headThenFail, func(t *testing.T, s *server, open opener) {
		stream, err := open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if h, err := stream.Header(); err != nil || len(h.Get("answer")) != 1 {
			t.Errorf("header %v, %v", h, err)
		}
		_, err = stream.Recv()
		if wantCode(t, err, codes.Unavailable); s.calls() != 1 {
			t.Errorf("%d attempts after the header was handed out", s.calls())
		}
	}, onDown(steady(time.Second)))
}

func TestStreamThatCannotBeOpenedAtOnce(t *testing.T) {
	t.Parallel()
	// Without a server, an opening that does not wait fails by itself.
	eachOpener(t, flaky(nil), func(t *testing.T, s *server, open opener) {
		fails := 2
		refuse := WithGRPCOptions(grpc.PerRPCCredentials(credentialsFunc(func() error {
			if fails--; fails >= 0 {
				return status.Error(codes.Unavailable, "no token yet")
			}
			return nil
		})))
		stream, err := open(t.Context(), refuse)
		if err != nil {
			t.Fatal(err)
		}
		if ctx := stream.Context(); ctx.Err() != nil {
			t.Error(ctx.Err())
		}
		if md := stream.Trailer(); md != nil {
			t.Errorf("trailer %v", md)
		}
		begin := time.Now()
		if got, err := drain(stream); got != "a b c" || err != nil {
			t.Errorf("received %q, %v", got, err)
		}
		wantElapsed(t, begin, 2*time.Second)
		if s.calls() != 1 {
			t.Errorf("%d calls reached the server", s.calls())
		}
		fails = 100
		stream, err = open(t.Context(), refuse)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Header(); status.Code(err) != codes.Unavailable {
			t.Errorf("Header: %v", err)
		}
	}, onDown(steady(time.Second)))
}

// credentialsFunc are per-RPC credentials that may fail, on the way out.
type credentialsFunc func() error

func (f credentialsFunc) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return nil, f()
}
func (credentialsFunc) RequireTransportSecurity() bool { return false }

func TestStreamsLeaveNothingBehindWhenTheirContextEnds(t *testing.T) {
	t.Parallel()
	hang := func() *server {
		return &server{stream: func(_ int, out grpc.ServerStreamingServer[output]) error {
			_ = out.Send(message("x"))
			<-out.Context().Done()
			return nil
		}}
	}
	// The bubble fails if a goroutine is left; goleak watches the rest.
	eachOpener(t, hang, func(t *testing.T, _ *server, open opener) {
		for _, received := range []bool{false, true} {
			ctx, cancel := context.WithCancel(t.Context())
			stream, err := open(ctx, WithTimeout(time.Hour), WithAttemptTimeout(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			if received {
				if _, err := stream.Recv(); err != nil {
					t.Error(err)
				}
			}
			cancel()
			synctest.Wait()
			_, err = stream.Recv()
			if err == nil && !received { // the message had come before
				_, err = stream.Recv()
			}
			if status.Code(err) != codes.Canceled {
				t.Errorf("after the cancellation: %v", err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := open(ctx)
		stopped(t, err, ReasonCanceled)
	}, onDown(steady(time.Second)))
}

func TestBidiStreamsRetryTheOpeningAlone(t *testing.T) {
	t.Parallel()
	type bidi = grpc.BidiStreamingClient[testpb.StreamingOutputCallRequest, output]
	opts := []CallOption{onDown(steady(time.Second)), WithMaxAttempts(4)}
	for name, dial := range map[string]func(t *testing.T, s *server) func(ctx context.Context, opts ...CallOption) (bidi, error){
		"bound": func(t *testing.T, s *server) func(ctx context.Context, opts ...CallOption) (bidi, error) {
			return NewStream(testpb.NewTestServiceClient(serve(t, s)).FullDuplexCall, opts...).Open
		},
		"intercepted": func(t *testing.T, s *server) func(ctx context.Context, opts ...CallOption) (bidi, error) {
			client := testpb.NewTestServiceClient(serve(t, s, grpc.WithStreamInterceptor(StreamClientInterceptor(opts...))))
			return func(ctx context.Context, opts ...CallOption) (bidi, error) {
				return client.FullDuplexCall(ctx, PerCall(opts...))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := &server{duplex: func(n int, io grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, output]) error {
					if n == 2 {
						return errDown
					}
					for {
						m, err := io.Recv()
						if err != nil {
							return nil
						}
						if err := io.Send(&output{Payload: m.GetPayload()}); err != nil {
							return err
						}
					}
				}}
				open := dial(t, s)
				fails := 2
				refuse := WithGRPCOptions(grpc.PerRPCCredentials(credentialsFunc(func() error {
					if fails--; fails >= 0 {
						return errDown
					}
					return nil
				})))
				begin := time.Now()
				stream, err := open(t.Context(), refuse, WithTimeout(time.Minute))
				if err != nil {
					t.Fatal(err)
				}
				wantElapsed(t, begin, 2*time.Second)
				for _, text := range []string{"a", "b"} {
					_ = stream.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: []byte(text)}})
					if m, err := stream.Recv(); err != nil || string(m.GetPayload().GetBody()) != text {
						t.Errorf("received %v, %v", m, err)
					}
				}
				// The timeout bounds the life of the stream from its start.
				_, err = stream.Recv()
				wantCode(t, err, codes.DeadlineExceeded)
				wantElapsed(t, begin, time.Minute)

				// What fails after the opening is the caller's.
				stream, err = open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err = stream.Recv(); status.Code(err) != codes.Unavailable || s.calls() != 2 {
					t.Errorf("%v after %d calls", err, s.calls())
				}
				fails = 100
				_, err = open(t.Context(), refuse, WithTimeout(time.Minute), WithAttemptTimeout(time.Second))
				if e := stopped(t, err, ReasonAttempts); e.Made != 4 {
					t.Errorf("%d attempts", e.Made)
				}
			})
		})
	}
}

func TestNilStreamsGiveErrors(t *testing.T) {
	t.Parallel()
	var nilCtx context.Context
	var s *ServerStream[testpb.StreamingOutputCallRequest, output]
	var d *Stream[grpc.ClientStream]
	stub := func(context.Context, ...grpc.CallOption) (grpc.ClientStream, error) { return nil, errDown }
	for name, call := range map[string]func() error{
		"ServerStream.Open: the stub is nil": func() error { _, err := s.Open(t.Context(), nil); return err },
		"ServerStream.Open: the context is nil": func() error {
			_, err := NewServerStream(testpb.NewTestServiceClient(nil).StreamingOutputCall).Open(nilCtx, nil)
			return err
		},
		"Stream.Open: the stub is nil":    func() error { _, err := d.Open(t.Context()); return err },
		"Stream.Open: the context is nil": func() error { _, err := NewStream(stub).Open(nilCtx); return err },
	} {
		if err := call(); err == nil || err.Error() != "reprise: "+name {
			t.Errorf("%s: %v", name, err)
		}
	}
}
