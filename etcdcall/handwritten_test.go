package etcdcall

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/reprise-go/reprise"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// stubTo is a hand-written stub over a connection with or without DialOptions.
func stubTo(t *testing.T, addr string, opts ...grpc.DialOption) pb.KVClient {
	t.Helper()
	conn, err := grpc.NewClient(addr, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pb.NewKVClient(conn)
}

func onWrites() reprise.Retryer { return OnWrites(fastBackoff) }
func onReads() reprise.Retryer  { return OnReads(fastBackoff) }

func TestHandWrittenStubsGetTheSameJudgement(t *testing.T) {
	t.Parallel()
	lost := status.Error(codes.Unavailable, "reset")
	for _, c := range []struct {
		name     string
		failures []error
		retryer  func() reprise.Retryer
		attempts int
		outcome  Outcome
	}{
		{"a write that was not applied", []error{rpctypes.ErrGRPCNoLeader}, onWrites, 2, Applied},
		{"a write that may have been", []error{lost}, onWrites, 1, Unknown},
		{"a write that was refused", []error{rpctypes.ErrGRPCEmptyKey}, onWrites, 1, NotApplied},
		{"a read", []error{lost, rpctypes.ErrGRPCTimeout, rpctypes.ErrGRPCNoLeader}, onReads, 4, Applied},
		{"a read that cannot succeed", []error{rpctypes.ErrGRPCCompacted}, onReads, 1, NotApplied},
	} {
		script := func(_ context.Context, method string, n int, _ any) (any, error) {
			if n <= len(c.failures) {
				return nil, c.failures[n-1]
			}
			return success(method), nil
		}
		ways := map[string]func(stub pb.KVClient) error{
			"Invoke": func(stub pb.KVClient) error {
				return reprise.Invoke(within5s(t), func(ctx context.Context, _ reprise.CallSettings) error {
					return second(stub.Put(ctx, &pb.PutRequest{}))
				}, reprise.WithRetry(c.retryer))
			},
			"Do": func(stub pb.KVClient) error {
				return second(reprise.Do(within5s(t), func(ctx context.Context) (*pb.PutResponse, error) {
					return stub.Put(ctx, &pb.PutRequest{})
				}, reprise.WithRetry(c.retryer)))
			},
			"Unary": func(stub pb.KVClient) error {
				return second(reprise.NewUnary(stub.Put, reprise.WithRetry(c.retryer)).Call(within5s(t), &pb.PutRequest{}))
			},
		}
		for way, call := range ways {
			s := startScripted(t, script)
			err := call(stubTo(t, s.addr, DialOptions()...))
			if n := s.count(pb.KV_Put_FullMethodName); n != c.attempts || OutcomeOf(err) != c.outcome {
				t.Errorf("%s by %s: %d attempts, outcome %v of %v", c.name, way, n, OutcomeOf(err), err)
			}
		}
	}
}

func TestOnlyDialOptionsTellThatARequestWasNeverSent(t *testing.T) {
	t.Parallel()
	silent := startSilent(t)
	for _, c := range []struct {
		opts []grpc.DialOption
		want Outcome
	}{
		{DialOptions(), NotApplied},
		{append(DialOptions(), DialOptions()...), NotApplied},
		{nil, Unknown},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), impatience)
		_, err := stubTo(t, silent, c.opts...).Put(ctx, &pb.PutRequest{}, grpc.WaitForReady(true))
		cancel()
		if OutcomeOf(err) != c.want {
			t.Errorf("with %d options: outcome %v of %v", len(c.opts), OutcomeOf(err), err)
		}
	}
}

// grpcRetries is a service config by which gRPC itself sends a Put up to four
// times when a server is unavailable.
const grpcRetries = `{"methodConfig": [{"name": [{"service": "etcdserverpb.KV"}], "retryPolicy": {"maxAttempts": 4,
	"initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

func TestDialOptionsSwitchOffTheRetriesOfGRPC(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		opts     []grpc.DialOption
		attempts int
	}{
		{DialOptions(), 1},
		{nil, 4}, // without them the config is heeded
	} {
		s := startScripted(t, func(context.Context, string, int, any) (any, error) {
			return nil, status.Error(codes.Unavailable, "reset")
		})
		stub := stubTo(t, s.addr, append(c.opts, grpc.WithDefaultServiceConfig(grpcRetries))...)
		_, err := stub.Put(within5s(t), &pb.PutRequest{})
		if n := s.count(pb.KV_Put_FullMethodName); n != c.attempts || OutcomeOf(err) != Unknown {
			t.Errorf("with %d options: %d attempts, want %d; outcome %v of %v", len(c.opts), n, c.attempts, OutcomeOf(err), err)
		}
	}
}

func TestWhatIsKnownOfAnEarlierCallSaysNothingOfThisOne(t *testing.T) {
	t.Parallel()
	s := startScripted(t, func(_ context.Context, method string, _ int, _ any) (any, error) { return success(method), nil })
	var server peer.Peer // of one call, and then given to another
	if _, err := stubTo(t, s.addr, DialOptions()...).Put(within5s(t), &pb.PutRequest{}, grpc.Peer(&server)); err != nil || server.Addr == nil {
		t.Fatalf("the caller's own option: %v, %v", server.Addr, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), impatience)
	defer cancel()
	_, err := stubTo(t, startSilent(t), DialOptions()...).Put(ctx, &pb.PutRequest{}, grpc.WaitForReady(true), grpc.Peer(&server))
	if OutcomeOf(err) != NotApplied {
		t.Errorf("outcome %v of %v", OutcomeOf(err), err)
	}
}

func TestOutcomeOfACallIsThatOfAllItsAttempts(t *testing.T) {
	t.Parallel()
	notApplied := &attemptError{raw: rpctypes.ErrGRPCNoLeader, sent: true}
	unknown := &attemptError{raw: status.Error(codes.Unavailable, "reset"), sent: true}
	stopped := func(made int, errs ...error) error {
		e := &reprise.Error{Reason: reprise.ReasonDeadline, Made: made, Err: errs[len(errs)-1]}
		for _, err := range errs {
			e.Attempts = append(e.Attempts, reprise.Attempt{Err: err})
		}
		return e
	}
	for name, c := range map[string]struct {
		err  error
		want Outcome
	}{
		"success":                       {nil, Applied},
		"none was made":                 {&reprise.Error{Reason: reprise.ReasonCanceled}, NotApplied},
		"none was applied":              {stopped(2, notApplied, notApplied), NotApplied},
		"one may have been":             {stopped(2, unknown, notApplied), Unknown},
		"one is not listed any more":    {stopped(3, notApplied, notApplied), Unknown},
		"OnWrites let the missing pass": {stopped(9, notApplied, &attemptError{raw: rpctypes.ErrGRPCNoLeader, sent: true, cleared: 8}), NotApplied},
		"wrapped":                       {fmt.Errorf("put: %w", stopped(2, unknown, notApplied)), Unknown},
		"ambiguous":                     {&AmbiguousError{Method: "m", Err: stopped(1, notApplied)}, Unknown},
		"an rpctypes error":             {rpctypes.ErrNoLeader, NotApplied},
		"a bare context error":          {context.DeadlineExceeded, Unknown},
		"something else":                {errors.New("boom"), Unknown},
	} {
		if got := OutcomeOf(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestManyAttemptsOfAWriteStayKnown(t *testing.T) {
	t.Parallel()
	s := startScripted(t, func(context.Context, string, int, any) (any, error) { return nil, rpctypes.ErrGRPCNoLeader })
	put := reprise.NewUnary(stubTo(t, s.addr, DialOptions()...).Put, reprise.WithRetry(onWrites), reprise.WithMaxAttempts(30))
	_, err := put.Call(within5s(t), &pb.PutRequest{})
	if s.count(pb.KV_Put_FullMethodName) != 30 || OutcomeOf(err) != NotApplied {
		t.Errorf("outcome %v of %v", OutcomeOf(err), err)
	}
	// The other way round: a Retryer that does not care is not trusted.
	careless := reprise.NewUnary(stubTo(t, s.addr, DialOptions()...).Put, reprise.WithMaxAttempts(30),
		reprise.WithRetry(func() reprise.Retryer { return reprise.OnErrorFunc(fastBackoff, func(error) bool { return true }) }))
	if _, err := careless.Call(within5s(t), &pb.PutRequest{}); OutcomeOf(err) != Unknown {
		t.Errorf("outcome %v of %v", OutcomeOf(err), err)
	}
}
