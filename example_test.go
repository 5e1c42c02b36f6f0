package reprise_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/reprise-go/reprise"
)

// store fails as often as its field says, then answers.
type store struct{ failures int }

func (s *store) get(context.Context, string) (string, error) {
	if s.failures--; s.failures >= 0 {
		return "", status.Error(codes.Unavailable, "the leader is gone")
	}
	return "value", nil
}

// policy retries UNAVAILABLE with pauses that suit an example.
func policy() reprise.Retryer {
	return reprise.OnCodes([]codes.Code{codes.Unavailable}, reprise.Backoff{
		Initial: time.Millisecond,
		Max:     10 * time.Millisecond,
	})
}

func Example() {
	s := &store{failures: 2}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	value, err := reprise.Do(ctx, func(ctx context.Context) (string, error) {
		return s.get(ctx, "key")
	}, reprise.WithRetry(policy))
	fmt.Println(value, err)
	// Output: value <nil>
}

func ExampleInvoke() {
	s := &store{failures: 2}
	var value string
	err := reprise.Invoke(context.Background(), func(ctx context.Context, settings reprise.CallSettings) error {
		fmt.Println("attempt", settings.Attempt)
		var err error
		value, err = s.get(ctx, "key")
		return err
	}, reprise.WithRetry(policy))
	fmt.Println(value, err)
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
	// value <nil>
}

func ExampleDo() {
	n, err := reprise.Do(context.Background(), func(ctx context.Context) (int, error) {
		if reprise.AttemptFromContext(ctx) == 1 {
			return 0, status.Error(codes.Unavailable, "not yet")
		}
		return 42, nil
	}, reprise.WithRetry(policy), reprise.WithMaxAttempts(3))
	fmt.Println(n, err)
	// Output: 42 <nil>
}

// The switch that a caller writes who wants to know why a call ended.
func ExampleError() {
	s := &store{failures: 100}
	_, err := reprise.Do(context.Background(), func(ctx context.Context) (string, error) {
		return s.get(ctx, "key")
	}, reprise.WithRetry(policy), reprise.WithMaxAttempts(3))

	if stopped, ok := errors.AsType[*reprise.Error](err); ok {
		switch stopped.Reason {
		case reprise.ReasonDeadline, reprise.ReasonElapsed:
			fmt.Println("out of time")
		case reprise.ReasonCanceled:
			fmt.Println("asked to stop:", stopped.Cause)
		default:
			fmt.Println(stopped.Reason, "after", stopped.Made, "attempts")
		}
	}
	fmt.Println(status.Code(err))
	fmt.Println(err)
	// Output:
	// attempts exhausted after 3 attempts
	// Unavailable
	// reprise: attempts exhausted after 3 attempts: last error: rpc error: code = Unavailable desc = the leader is gone
}

// With a deadline that the next pause would cross, the call returns at once,
// with the deadline and the last error both.
func ExampleError_deadline() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	s := &store{failures: 100}
	_, err := reprise.Do(ctx, func(ctx context.Context) (string, error) {
		return s.get(ctx, "key")
	}, reprise.WithRetry(func() reprise.Retryer {
		return reprise.OnUnavailable(reprise.Backoff{Initial: 2 * time.Hour, Max: 2 * time.Hour, Jitter: reprise.JitterNone})
	}))
	fmt.Println(errors.Is(err, context.DeadlineExceeded), ctx.Err())
	fmt.Println(err)
	// Output:
	// true <nil>
	// reprise: deadline exceeded after 1 attempt: last error: rpc error: code = Unavailable desc = the leader is gone
}

// A policy for a whole program, and one call that wants none.
func ExampleRecommended() {
	server := serve(func(_ context.Context, call int) error {
		if call == 1 {
			return status.Error(codes.Unavailable, "starting")
		}
		return nil
	})
	defer server.stop()
	call := reprise.NewUnary(server.client().EmptyCall, reprise.Recommended())

	_, err := call.Call(context.Background(), &testpb.Empty{}, reprise.WithRetry(nil))
	fmt.Println("without retrying:", status.Code(err))
	_, err = call.Call(context.Background(), &testpb.Empty{})
	fmt.Println("as recommended:", err)
	// Output:
	// without retrying: Unavailable
	// as recommended: <nil>
}

func ExampleNewUnary() {
	server := serve(func(_ context.Context, call int) error {
		if call < 3 {
			return status.Error(codes.Unavailable, "starting")
		}
		return nil
	})
	defer server.stop()

	// Bound once, where the client is made …
	budget := reprise.NewThrottle(10, 0.1) // shared by all calls to this server
	empty := reprise.NewUnary(server.client().EmptyCall,
		reprise.WithRetry(policy), reprise.WithThrottle(budget), reprise.WithMaxAttempts(5))

	// … and called like the stub.
	_, err := empty.Call(context.Background(), &testpb.Empty{})
	fmt.Println(err, "after", server.calls.Load(), "attempts;", budget.Tokens(), "tokens are left")
	// Output: <nil> after 3 attempts; 8.1 tokens are left
}

func ExampleWithAttemptTimeout() {
	_, err := reprise.Do(context.Background(), func(ctx context.Context) (string, error) {
		if reprise.AttemptFromContext(ctx) == 1 {
			<-ctx.Done() // a connection that leads nowhere
			return "", ctx.Err()
		}
		return "value", nil
	},
		reprise.WithAttemptTimeout(20*time.Millisecond),
		reprise.WithRetry(func() reprise.Retryer { return reprise.OnAttemptTimeout(policy()) }))
	fmt.Println(err)
	// Output: <nil>
}

func ExampleOnErrorFunc() {
	errBusy := errors.New("busy")
	retry := reprise.WithRetry(func() reprise.Retryer {
		return reprise.OnErrorFunc(reprise.Backoff{Initial: time.Millisecond}, func(err error) bool {
			return errors.Is(err, errBusy)
		})
	})
	attempts := 0
	err := reprise.Invoke(context.Background(), func(context.Context, reprise.CallSettings) error {
		if attempts++; attempts < 3 {
			return fmt.Errorf("attempt %d: %w", attempts, errBusy)
		}
		return nil
	}, retry)
	fmt.Println(attempts, err)
	// Output: 3 <nil>
}

// Errors of two kinds, each with its own pauses and its own patience.
func ExampleAnyOf() {
	retry := func() reprise.Retryer {
		return reprise.AnyOf(
			reprise.OnUnavailable(reprise.Backoff{Initial: time.Millisecond}),
			reprise.AtMost(2, reprise.OnCodes([]codes.Code{codes.Aborted}, reprise.Backoff{Initial: time.Millisecond})),
		)
	}
	attempts := 0
	err := reprise.Invoke(context.Background(), func(context.Context, reprise.CallSettings) error {
		if attempts++; attempts < 5 {
			return status.Error(codes.Unavailable, "restarting")
		}
		return status.Error(codes.Aborted, "conflict")
	}, reprise.WithRetry(retry))
	fmt.Println(attempts, status.Code(err))
	// Output: 6 Aborted
}

func ExampleBackoff() {
	bo := reprise.Backoff{Initial: 100 * time.Millisecond, Max: time.Second, Jitter: reprise.JitterNone}
	for range 5 {
		fmt.Print(bo.Pause(), " ")
	}
	fmt.Println()
	// Output: 100ms 200ms 400ms 800ms 1s
}

func ExampleThrottle() {
	budget := reprise.NewThrottle(4, 0.5)
	fails := func(context.Context, reprise.CallSettings) error {
		return status.Error(codes.Unavailable, "down")
	}
	for range 3 {
		err := reprise.Invoke(context.Background(), fails, reprise.WithRetry(policy), reprise.WithThrottle(budget))
		stopped, _ := errors.AsType[*reprise.Error](err)
		fmt.Println(stopped.Made, "attempts,", budget.Tokens(), "tokens left:", errors.Is(err, reprise.ErrThrottled))
	}
	// Output:
	// 2 attempts, 2 tokens left: true
	// 1 attempts, 1 tokens left: true
	// 1 attempts, 0 tokens left: true
}

// A server that is down for every client is asked less and less, first
// attempts included.
func ExampleAdaptiveThrottle() {
	throttle := reprise.NewAdaptiveThrottle(reprise.AdaptiveConfig{
		RefusalPause: -1,
		Rand:         func() float64 { return 0.9 },
	})
	sent := 0
	for range 100 {
		_ = reprise.Invoke(context.Background(), func(context.Context, reprise.CallSettings) error {
			sent++
			return status.Error(codes.Unavailable, "down")
		}, reprise.WithThrottle(throttle))
	}
	fmt.Println(sent, "of 100 calls were sent")
	// Output: 10 of 100 calls were sent
}

func ExampleWithPushback() {
	server := serve(func(_ context.Context, call int) error {
		if call == 1 {
			return status.Error(codes.Unavailable, "overloaded")
		}
		return nil
	}, metadata.Pairs("grpc-retry-pushback-ms", "10"))
	defer server.stop()
	call := reprise.NewUnary(server.client().EmptyCall, reprise.WithPushback(),
		reprise.WithRetry(func() reprise.Retryer { return reprise.OnUnavailable(reprise.Backoff{Initial: time.Hour}) }),
		reprise.WithObserver(reprise.ObserverFunc(func(_ context.Context, e reprise.Event) {
			if e.Kind == reprise.EventPause {
				fmt.Println("pause of", e.Pause, "by the", e.Source)
			}
		})))
	_, err := call.Call(context.Background(), &testpb.Empty{})
	fmt.Println(err)
	// Output:
	// pause of 10ms by the pushback trailer
	// <nil>
}

func ExampleWithHedge() {
	server := serve(func(ctx context.Context, call int) error {
		if call == 1 {
			<-ctx.Done() // one of the slow ones
		}
		return ctx.Err()
	})
	defer server.stop()
	call := reprise.NewUnary(server.client().EmptyCall, reprise.WithHedge(reprise.HedgePolicy{
		MaxAttempts:   2,
		Delay:         20 * time.Millisecond, // about the 95th percentile
		NonFatalCodes: []codes.Code{codes.Unavailable},
	}))
	_, err := call.Call(context.Background(), &testpb.Empty{})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleNewServerStream() {
	server := serve(func(_ context.Context, call int) error {
		if call == 1 {
			return status.Error(codes.Unavailable, "starting")
		}
		return nil
	})
	defer server.stop()
	watch := reprise.NewServerStream(server.client().StreamingOutputCall, reprise.WithRetry(policy))

	stream, err := watch.Open(context.Background(), &testpb.StreamingOutputCallRequest{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for {
		m, err := stream.Recv() // the first one retries, the others do not
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(string(m.GetPayload().GetBody()))
	}
	// Output:
	// one
	// two
	// EOF
}

// Any generated client gets the policy, without a change.
func ExampleUnaryClientInterceptor() {
	server := serve(func(_ context.Context, call int) error {
		if call < 3 {
			return status.Error(codes.Unavailable, "starting")
		}
		return status.Error(codes.NotFound, "no such thing")
	})
	defer server.stop()
	client := server.client(
		grpc.WithUnaryInterceptor(reprise.UnaryClientInterceptor(reprise.WithRetry(policy))),
		grpc.WithDisableRetry(), // or the attempts multiply
	)
	_, err := client.EmptyCall(context.Background(), &testpb.Empty{}, reprise.PerCall(reprise.WithMaxAttempts(5)))
	fmt.Println(status.Code(err), "after", server.calls.Load(), "attempts")
	// Output: NotFound after 3 attempts
}

func ExampleSlogObserver() {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch a.Key {
			case slog.TimeKey, "pause", "duration":
				return slog.Attr{} // they differ from run to run
			}
			return a
		},
	}))
	s := &store{failures: 1}
	_, _ = reprise.Do(context.Background(), func(ctx context.Context) (string, error) { return s.get(ctx, "key") },
		reprise.WithRetry(policy), reprise.WithObserver(reprise.SlogObserver(log)))
	// Output:
	// level=DEBUG msg="attempt failed" attempt=1 error="rpc error: code = Unavailable desc = the leader is gone"
	// level=DEBUG msg="trying again" attempt=1 source=backoff
	// level=INFO msg="call succeeded after retries" attempts=2
}

func ExampleSleep() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	fmt.Println(reprise.Sleep(ctx, time.Hour))
	// Output: context deadline exceeded
}

func ExampleXGoogHeader() {
	fmt.Println(reprise.XGoogHeader("gl-go", "1.26.0", "gax", reprise.Version))
	// Output: gl-go/1.26.0 gax/0.1.0
}

func ExampleInsertMetadataIntoOutgoingContext() {
	ctx := reprise.InsertMetadataIntoOutgoingContext(context.Background(), "X-Goog-Api-Client", "gl-go/1.26.0")
	ctx = reprise.InsertMetadataIntoOutgoingContext(ctx, "x-goog-api-client", "gax/2")
	md, _ := metadata.FromOutgoingContext(ctx)
	fmt.Println(md.Get("x-goog-api-client"))
	fmt.Println(reprise.BuildHeaders(ctx).Get("x-goog-api-client"))
	// Output:
	// [gl-go/1.26.0 gax/2]
	// gl-go/1.26.0 gax/2
}

// exampleServer is a gRPC server in the process, whose calls fail as a
// function says.
type exampleServer struct {
	testpb.UnimplementedTestServiceServer

	result  func(ctx context.Context, call int) error
	trailer []metadata.MD
	calls   atomic.Int64

	lis   *bufconn.Listener
	srv   *grpc.Server
	conns []*grpc.ClientConn
}

func serve(result func(ctx context.Context, call int) error, trailer ...metadata.MD) *exampleServer {
	s := &exampleServer{result: result, trailer: trailer, lis: bufconn.Listen(1 << 16), srv: grpc.NewServer()}
	testpb.RegisterTestServiceServer(s.srv, s)
	go func() { _ = s.srv.Serve(s.lis) }()
	return s
}

func (s *exampleServer) client(opts ...grpc.DialOption) testpb.TestServiceClient {
	conn, err := grpc.NewClient("passthrough:///example", append(opts,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.lis.DialContext(ctx) }))...)
	if err != nil {
		fmt.Println(err)
	}
	s.conns = append(s.conns, conn)
	return testpb.NewTestServiceClient(conn)
}

func (s *exampleServer) stop() {
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.srv.Stop()
}

func (s *exampleServer) EmptyCall(ctx context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
	call := s.calls.Add(1)
	for _, md := range s.trailer {
		_ = grpc.SetTrailer(ctx, md)
	}
	return &testpb.Empty{}, s.result(ctx, int(call))
}

func (s *exampleServer) StreamingOutputCall(
	_ *testpb.StreamingOutputCallRequest, out grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse],
) error {
	if err := s.result(out.Context(), int(s.calls.Add(1))); err != nil {
		return err
	}
	for _, text := range []string{"one", "two"} {
		if err := out.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: []byte(text)}}); err != nil {
			return err
		}
	}
	return nil
}
