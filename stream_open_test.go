package reprise

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
)

// reflecting answers each message of a bidirectional stream with an empty one.
func reflecting() *server {
	return &server{duplex: func(_ int, io grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, output]) error {
		for {
			if _, err := io.Recv(); err != nil {
				return nil
			}
			if err := io.Send(&output{}); err != nil {
				return err
			}
		}
	}}
}

func TestTheTimeoutsOfAStreamAreFreedWhenItEnds(t *testing.T) {
	for name, opt := range map[string]CallOption{
		"WithTimeout": WithTimeout(time.Hour), "WithAttemptTimeout": WithAttemptTimeout(time.Hour),
		"both": Options(WithTimeout(time.Hour), WithAttemptTimeout(time.Hour)),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				opened := make(chan context.Context, 1)
				conn := serve(t, reflecting(), grpc.WithStreamInterceptor(func(
					ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption,
				) (grpc.ClientStream, error) {
					opened <- ctx
					return streamer(ctx, desc, cc, method, opts...)
				}))
				s, err := NewStream(testpb.NewTestServiceClient(conn).FullDuplexCall, opt).Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				_ = s.Send(&testpb.StreamingOutputCallRequest{})
				if _, err := s.Recv(); err != nil {
					t.Fatal(err)
				}
				ctx := <-opened
				synctest.Wait()
				if ctx.Err() != nil {
					t.Error("the context ended before the stream")
				}
				_ = s.CloseSend()
				if _, err := s.Recv(); err == nil {
					t.Fatal("the stream goes on")
				}
				synctest.Wait()
				if ctx.Err() == nil {
					t.Error("the context outlives the stream")
				}
			})
		})
	}
}

// gRPC tells of the end of the first stream too, which the caller never saw.
func TestAnInterceptorMayOpenAStreamTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		fails := 1
		conn := serve(t, reflecting(), grpc.WithStreamInterceptor(func(
			ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			s, err := streamer(ctx, desc, cc, method, append(opts, grpc.PerRPCCredentials(credentialsFunc(func() error {
				if fails--; fails >= 0 {
					return errDown
				}
				return nil
			})))...)
			if err != nil {
				return streamer(ctx, desc, cc, method, opts...)
			}
			return s, nil
		}))
		s, err := NewStream(testpb.NewTestServiceClient(conn).FullDuplexCall, WithTimeout(time.Hour), WithAttemptTimeout(time.Hour)).Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_ = s.Send(&testpb.StreamingOutputCallRequest{})
		if _, err := s.Recv(); err != nil || fails != 0 {
			t.Errorf("%v, %d", err, fails)
		}
	})
}

func TestAStubThatDropsItsOptionsIsBoundedAllTheSame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		opened := make(chan context.Context, 1)
		open := NewStream(func(ctx context.Context, _ ...grpc.CallOption) (grpc.ClientStream, error) {
			opened <- ctx
			return &recorded{}, nil // which has no context to ask for
		}, WithTimeout(time.Minute), WithAttemptTimeout(time.Second)).Open
		if _, err := open(t.Context()); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		<-(<-opened).Done()
		wantElapsed(t, begin, time.Minute)
	})
}
