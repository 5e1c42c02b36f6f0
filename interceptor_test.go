package reprise

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

func TestUnaryInterceptorBringsThePolicyToAnyClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := scripted(step{code: codes.Unavailable}, step{code: codes.Unavailable}, step{})
		client := testpb.NewTestServiceClient(serve(t, s, grpc.WithUnaryInterceptor(UnaryClientInterceptor(onDown(steady(time.Second))))))
		var header, trailer metadata.MD
		var from peer.Peer
		resp, err := client.UnaryCall(t.Context(), &testpb.SimpleRequest{}, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from))
		if err != nil || resp.GetUsername() != "3" {
			t.Fatalf("%v, %v", resp, err)
		}
		if want := []time.Duration{0, time.Second, 2 * time.Second}; !slices.Equal(s.times(), want) {
			t.Errorf("attempts at %v, want %v", s.times(), want)
		}
		if want := []string{"-", "1", "2"}; !slices.Equal(s.previous(), want) {
			t.Errorf("attempt headers %q, want %q", s.previous(), want)
		}
		if !slices.Equal(header.Get("answer"), []string{"3"}) || !slices.Equal(trailer.Get("answer"), []string{"3"}) || from.Addr == nil {
			t.Errorf("header %v, trailer %v, peer %v are not those of the last attempt", header, trailer, from)
		}
	})
}

func TestPerCallOverridesTheInterceptor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := scripted(step{code: codes.Unavailable})
		client := testpb.NewTestServiceClient(serve(t, s, grpc.WithUnaryInterceptor(UnaryClientInterceptor(onDown(steady(1)), WithMaxAttempts(4)))))
		for _, test := range []struct {
			opts []grpc.CallOption
			want int
		}{
			{nil, 4},
			{[]grpc.CallOption{PerCall(WithMaxAttempts(2))}, 2},
			{[]grpc.CallOption{PerCall(WithMaxAttempts(2)), grpc.WaitForReady(true), PerCall(WithRetry(nil))}, 1},
			{[]grpc.CallOption{PerCall()}, 4},
			{nil, 4},
		} {
			before := s.calls()
			_, err := client.UnaryCall(t.Context(), nil, test.opts...)
			if n := s.calls() - before; n != test.want {
				t.Errorf("%d attempts, want %d: %v", n, test.want, err)
			}
			wantCode(t, err, codes.Unavailable)
		}
	})
}

func TestTheCallersGRPCOptionsHoldOverTheInterceptors(t *testing.T) {
	t.Parallel()
	own, callers := grpc.MaxCallRecvMsgSize(1), grpc.MaxCallRecvMsgSize(2)
	var got []grpc.CallOption
	err := UnaryClientInterceptor(WithGRPCOptions(own))(t.Context(), "/m", nil, nil, nil,
		func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
			got = opts
			return nil
		}, callers)
	if err != nil || !slices.Equal(got, []grpc.CallOption{own, callers}) {
		t.Errorf("%v, %v", got, err)
	}
}

// With grpc-go's own retry on, each of Reprise's attempts may become several
// on the wire; with it off, they are Reprise's alone.
func TestAttemptsMultiplyUnlessGRPCsRetryIsOff(t *testing.T) {
	const config = `{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3,
		"initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`
	bubble(t, func(t *testing.T) {
		for _, test := range []struct {
			opts []grpc.DialOption
			want int
		}{{nil, 6}, {[]grpc.DialOption{grpc.WithDisableRetry()}, 2}} {
			// Headers would commit grpc-go to the attempt.
			s := &server{unary: func(context.Context, int, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) { return nil, errDown }}
			conn := serveRetrying(t, s, append(test.opts, grpc.WithDefaultServiceConfig(config),
				grpc.WithUnaryInterceptor(UnaryClientInterceptor(onDown(steady(time.Second)), WithMaxAttempts(2))))...)
			_, err := testpb.NewTestServiceClient(conn).UnaryCall(t.Context(), &testpb.SimpleRequest{})
			stopped(t, err, ReasonAttempts)
			if s.calls() != test.want {
				t.Errorf("%d attempts reached the server, want %d", s.calls(), test.want)
			}
		}
	})
}

func TestInterceptedStreamReportsALocalSendError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client := testpb.NewTestServiceClient(serve(t, flaky(nil)(), grpc.WithStreamInterceptor(StreamClientInterceptor(onDown(steady(1))))))
		_, err := client.StreamingOutputCall(t.Context(), &testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: make([]byte, 100)}},
			grpc.MaxCallSendMsgSize(10))
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("got %v", err)
		}
	})
}

// recorded is a client stream that notes what is done to it.
type recorded struct {
	grpc.ClientStream

	recv error
	done []string
}

func (r *recorded) SendMsg(m any) error  { r.done = append(r.done, "send "+m.(string)); return nil }
func (r *recorded) CloseSend() error     { r.done = append(r.done, "close"); return nil }
func (r *recorded) RecvMsg(any) error    { r.done = append(r.done, "receive"); return r.recv }
func (r *recorded) Trailer() metadata.MD { return nil }

func TestAStreamOpenedAnewIsSentAllThatTheFirstWas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var streams []*recorded
		stream, err := StreamClientInterceptor(onDown(steady(1)))(t.Context(), &grpc.StreamDesc{ServerStreams: true}, nil, "/m",
			func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
				streams = append(streams, &recorded{})
				if len(streams) < 3 {
					streams[len(streams)-1].recv = errDown
				}
				return streams[len(streams)-1], nil
			})
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.SendMsg("request")
		_ = stream.CloseSend()
		if err := stream.RecvMsg(nil); err != nil {
			t.Fatal(err)
		}
		for i, s := range streams {
			if want := []string{"send request", "close", "receive"}; !slices.Equal(s.done, want) {
				t.Errorf("stream %d: %q, want %q", i+1, s.done, want)
			}
		}
		if len(streams) != 3 {
			t.Errorf("%d streams", len(streams))
		}
	})
}

func TestPerCallObserversAreToldTheMethod(t *testing.T) {
	bubble(t, func(t *testing.T) {
		conn := serve(t, scripted(step{}), grpc.WithUnaryInterceptor(UnaryClientInterceptor(WithGRPCOptions(grpc.MaxCallRecvMsgSize(1<<20)))))
		var methods []string
		_, err := testpb.NewTestServiceClient(conn).UnaryCall(t.Context(), &testpb.SimpleRequest{},
			PerCall(WithObserver(ObserverFunc(func(_ context.Context, e Event) { methods = append(methods, e.Method+" "+e.Target) }))))
		const want = "/grpc.testing.TestService/UnaryCall passthrough:///test"
		if err != nil || !slices.Equal(methods, []string{want, want}) {
			t.Errorf("%v, %q", err, methods)
		}
	})
}

func TestAnObservedCallMayHaveNoConnection(t *testing.T) {
	t.Parallel()
	d := new(diary)
	given := []CallOption{WithObserver(d)}
	option := PerCall(given...)
	given[0] = nil // the option has its own copy
	err := UnaryClientInterceptor()(t.Context(), "/m", nil, nil, nil,
		func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }, option)
	if err != nil || len(d.lines) != 2 || !strings.HasPrefix(d.lines[0], "/m@ ") {
		t.Errorf("%v, heard %q", err, d.lines)
	}
}

func TestInterceptedOptionsAreClipped(t *testing.T) {
	t.Parallel()
	for n := range 20 {
		bound := resolved(WithGRPCOptions(grpc.WaitForReady(true)))
		cs := bound.intercepted("/s/m", nil, slices.Repeat([]grpc.CallOption{grpc.WaitForReady(true)}, n))
		if len(cs.GRPC) != n+1 || cap(cs.GRPC) != n+1 {
			t.Errorf("%d options with the capacity for %d", len(cs.GRPC), cap(cs.GRPC))
		}
		bound = CallSettings{}
		if cs := bound.intercepted("/s/m", nil, make([]grpc.CallOption, n, n+1)); len(cs.GRPC) != n || cap(cs.GRPC) != n {
			t.Errorf("%d options with the capacity for %d", len(cs.GRPC), cap(cs.GRPC))
		}
	}
}
