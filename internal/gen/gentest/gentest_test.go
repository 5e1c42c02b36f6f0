package gentest_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/internal/gen/gentest"
	"github.com/reprise-go/reprise/internal/gen/gentest/configured"
	"github.com/reprise-go/reprise/internal/gen/gentest/gentestreprise"
)

// Both generated clients have the same methods; the calls under test are made
// through this.
type kinds interface {
	Get(context.Context, *gentest.Request, ...reprise.CallOption) (*gentest.Response, error)
	Set(context.Context, *gentest.Request, ...reprise.CallOption) (*gentest.Response, error)
	Add(context.Context, *gentest.Request, ...reprise.CallOption) (*gentest.Response, error)
	List(context.Context, *gentest.Request, ...reprise.CallOption) (grpc.ServerStreamingClient[gentest.Response], error)
	Upload(context.Context, ...reprise.CallOption) (grpc.ClientStreamingClient[gentest.Request, gentest.Response], error)
	Chat(context.Context, ...reprise.CallOption) (grpc.BidiStreamingClient[gentest.Request, gentest.Response], error)
	AsKindsClient() gentest.KindsClient
}

func request(v int64) *gentest.Request { return &gentest.Request{Value: new(v)} }

// list reads a stream of List to its end.
func list(ctx context.Context, c kinds) ([]int64, error) {
	stream, err := c.List(ctx, request(7))
	if err != nil {
		return nil, err
	}
	var all []int64
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, r.GetValue())
	}
}

func get(ctx context.Context, c kinds) error { _, err := c.Get(ctx, request(1)); return err }
func set(ctx context.Context, c kinds) error { _, err := c.Set(ctx, request(1)); return err }
func add(ctx context.Context, c kinds) error { _, err := c.Add(ctx, request(1)); return err }

func listed(ctx context.Context, c kinds) error {
	all, err := list(ctx, c)
	if err == nil && !slices.Equal(all, []int64{7, 8, 9}) {
		return errors.New("wrong messages")
	}
	return err
}

func TestWithoutAConfigOnlyMethodsThatMayBeRepeatedAreRetried(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		call func(context.Context, kinds) error
		want int // attempts, of a server that fails twice
	}{
		"NO_SIDE_EFFECTS": {get, 3}, "IDEMPOTENT": {set, 3}, "unknown": {add, 1}, "stream": {listed, 3},
	} {
		s := new(server)
		client := gentestreprise.NewKindsClient(s.start(t), nil)
		s.play(unavailable(2)...)
		if err := tt.call(t.Context(), client); (err == nil) != (tt.want == 3) || len(s.took()) != tt.want {
			t.Errorf("%s: got %v after %d attempts, want %d", name, err, len(s.took()), tt.want)
		}
		s.play(status.Error(codes.Aborted, "no"))
		if err := tt.call(t.Context(), client); status.Code(err) != codes.Aborted || len(s.took()) != 1 {
			t.Errorf("%s: of another code: got %v after %d attempts, want Aborted after 1", name, err, len(s.took()))
		}
	}
}

func TestTheConfigRulesEachMethod(t *testing.T) {
	t.Parallel()
	s := new(server)
	client := configured.NewKindsClient(s.start(t), nil)
	for _, tt := range []struct {
		name     string
		call     func(context.Context, kinds) error
		failures int
		want     int
		ok       bool
		deadline bool
	}{
		{"retried", get, 4, 5, true, true},
		{"retried to the limit", get, 9, 5, false, true},
		{"stream", listed, 4, 5, true, true},
		{"hedged", set, 2, 3, true, false},
		{"once", add, 1, 1, false, false},
	} {
		s.play(unavailable(tt.failures)...)
		err := tt.call(t.Context(), client)
		took := s.took()
		if (err == nil) != tt.ok || len(took) != tt.want {
			t.Errorf("%s: got %v after %d attempts, want %d", tt.name, err, len(took), tt.want)
		}
		for _, a := range took {
			if a.deadline != tt.deadline {
				t.Errorf("%s: has a deadline: %v, want %v", tt.name, a.deadline, tt.deadline)
			}
		}
	}
	if _, err := client.Get(t.Context(), &gentest.Request{Key: string(make([]byte, 5000))}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("of a request above maxRequestMessageBytes: got %v, want ResourceExhausted", err)
	}
}

func TestStreamsOfTheClientWorkAndAreNotReplayed(t *testing.T) {
	t.Parallel()
	s := new(server)
	client := gentestreprise.NewKindsClient(s.start(t), nil)
	upload, err := client.Upload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(3) {
		if err := upload.Send(request(i)); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := upload.CloseAndRecv(); err != nil || r.GetValue() != 3 {
		t.Errorf("Upload: got %v, %v, want 3", r, err)
	}
	s.play(unavailable(1)...)
	chat, err := client.Chat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chat.Recv(); status.Code(err) != codes.Unavailable || len(s.took()) != 1 {
		t.Errorf("Chat: got %v after %d attempts, want the failure of the one", err, len(s.took()))
	}
	if chat, err = client.Chat(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := chat.Send(request(4)); err != nil {
		t.Fatal(err)
	}
	if r, err := chat.Recv(); err != nil || r.GetValue() != 5 {
		t.Errorf("Chat: got %v, %v, want 5", r, err)
	}
	if err := chat.CloseSend(); err != nil {
		t.Error(err)
	}
}

func TestOptionsOfACallComeLast(t *testing.T) {
	t.Parallel()
	s := new(server)
	client := configured.NewKindsClient(s.start(t), nil)
	s.play(unavailable(1)...)
	if _, err := client.Get(t.Context(), request(1), reprise.WithRetry(nil)); status.Code(err) != codes.Unavailable || len(s.took()) != 1 {
		t.Errorf("got %v after %d attempts, want Unavailable after 1", err, len(s.took()))
	}
	var header metadata.MD
	plain := client.AsKindsClient()
	if r, err := plain.Get(t.Context(), request(1), grpc.Header(&header)); err != nil || r.GetValue() != 2 || header == nil {
		t.Errorf("with a gRPC option: got %v, %v, header %v", r, err, header)
	}
}

func TestThePlainClientRetriesTheSame(t *testing.T) {
	t.Parallel()
	s := new(server)
	// A client upon the plain form of another: what the outer does not retry,
	// the inner does.
	inner := configured.NewKindsClient(s.start(t), nil).AsKindsClient()
	client := gentestreprise.NewKindsClient(inner, &gentestreprise.KindsCallOptions{})
	for name, call := range map[string]func(context.Context, kinds) error{"unary": get, "stream": listed} {
		s.play(unavailable(4)...)
		if err := call(t.Context(), client); err != nil || len(s.took()) != 5 {
			t.Errorf("%s: got %v after %d attempts, want success after 5", name, err, len(s.took()))
		}
	}
	if chat, err := inner.Chat(t.Context(), grpc.WaitForReady(true)); err != nil {
		t.Error(err)
	} else if err := chat.CloseSend(); err != nil {
		t.Error(err)
	}
}

func TestOneThrottleCanServeTheClientsOfAServer(t *testing.T) {
	t.Parallel()
	s := new(server)
	stub := s.start(t)
	throttle := configured.DefaultKindsThrottle()
	one := configured.NewKindsClient(stub, configured.DefaultKindsCallOptions(throttle))
	two := configured.NewKindsClient(stub, configured.DefaultKindsCallOptions(throttle))
	three := configured.NewKindsClient(stub, nil)
	s.play(unavailable(100)...)
	attempts := func(client kinds) int {
		before := len(s.took())
		_ = get(t.Context(), client)
		return len(s.took()) - before
	}
	for range 9 { // of 100 tokens, 55 are left
		if n := attempts(one); n != 5 {
			t.Fatalf("%d attempts, want 5 while there are tokens", n)
		}
	}
	if n := attempts(two); n != 5 {
		t.Errorf("%d attempts, want 5, the last with 51 tokens", n)
	}
	for name, client := range map[string]kinds{"first": one, "second": two} {
		if n := attempts(client); n != 1 {
			t.Errorf("the %s client made %d attempts without tokens, want 1", name, n)
		}
	}
	if n := attempts(three); n != 5 {
		t.Errorf("a client with a throttle of its own made %d attempts, want 5", n)
	}
}

func TestTheOptionsOfMethodsAreApart(t *testing.T) {
	t.Parallel()
	o := configured.DefaultKindsCallOptions(make([]reprise.CallOption, 3, 100)...)
	o.Get = append(o.Get, reprise.WithMaxAttempts(1))
	o.List = append(o.List, reprise.WithMaxAttempts(2))
	var cs reprise.CallSettings
	reprise.Options(o.Get...).Resolve(&cs)
	if cs.MaxAttempts != 1 {
		t.Errorf("an option appended to those of List changed those of Get: %d attempts, want 1", cs.MaxAttempts)
	}
}

func TestAnObserverHearsTheNameOfTheMethod(t *testing.T) {
	t.Parallel()
	s := new(server)
	seen := make(chan string, 10)
	client := gentestreprise.NewKindsClient(s.start(t), gentestreprise.DefaultKindsCallOptions(
		reprise.WithObserver(reprise.ObserverFunc(func(_ context.Context, e reprise.Event) { seen <- e.Method }))))
	if err := add(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != gentest.Kinds_Add_FullMethodName {
		t.Errorf("got %q, want %q", got, gentest.Kinds_Add_FullMethodName)
	}
}

func TestTheAttemptNumberGoesOverTheWire(t *testing.T) {
	t.Parallel()
	s := new(server)
	client := configured.NewKindsClient(s.start(t), nil)
	s.play(unavailable(2)...)
	if err := get(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range s.took() {
		got = append(got, a.previous)
	}
	if want := []string{"", "1", "2"}; !slices.Equal(got, want) {
		t.Errorf("grpc-previous-rpc-attempts: got %q, want %q", got, want)
	}
}

func TestWithoutAStubEveryCallFails(t *testing.T) {
	t.Parallel()
	for name, client := range map[string]kinds{
		"nil stub": configured.NewKindsClient(nil, nil), "zero value": new(gentestreprise.KindsClient),
	} {
		_, unary := client.Get(t.Context(), request(1))
		_, stream := client.List(t.Context(), request(1))
		_, chat := client.Chat(t.Context())
		_, plain := client.AsKindsClient().Get(t.Context(), request(1))
		for call, err := range map[string]error{"Get": unary, "List": stream, "Chat": chat, "plain Get": plain} {
			if _, ok := errors.AsType[*reprise.ArgumentError](err); !ok {
				t.Errorf("%s: %s: got %v, want an ArgumentError", name, call, err)
			}
		}
	}
}
