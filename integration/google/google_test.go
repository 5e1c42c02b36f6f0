// Package google runs a generated Google client on Reprise's policies.
package google

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/longrunning/autogen"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/gaxcall"
)

// server fails as often as a test says, with a trailer if there is one.
type server struct {
	longrunningpb.UnimplementedOperationsServer

	mu       sync.Mutex
	failures int
	trailer  metadata.MD
	began    []time.Time
}

func (s *server) GetOperation(ctx context.Context, r *longrunningpb.GetOperationRequest) (*longrunningpb.Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = append(s.began, time.Now())
	if s.failures--; s.failures >= 0 {
		_ = grpc.SetTrailer(ctx, s.trailer)
		return nil, status.Error(codes.Unavailable, "down")
	}
	return &longrunningpb.Operation{Name: r.GetName(), Done: true}, nil
}

// script sets what the next call meets.
func (s *server) script(failures int, trailer metadata.MD) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures, s.trailer, s.began = failures, trailer, nil
}

func (s *server) pauses() (list []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 1; i < len(s.began); i++ {
		list = append(list, s.began[i].Sub(s.began[i-1]))
	}
	return list
}

// client returns a generated client of s.
func client(t *testing.T, s *server) *longrunning.OperationsClient {
	t.Helper()
	lis, srv := bufconn.Listen(1<<16), grpc.NewServer()
	longrunningpb.RegisterOperationsServer(srv, s)
	go func() { _ = srv.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///operations", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	c, err := longrunning.NewOperationsClient(t.Context(), option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		srv.Stop()
	})
	return c
}

func TestAGeneratedGoogleClientRunsOnReprise(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := new(server)
		c := client(t, s)
		budget := reprise.NewThrottle(6, 0.5)
		policy, err := gaxcall.ToGAX(
			reprise.WithRetry(func() reprise.Retryer {
				return reprise.OnUnavailable(reprise.Backoff{Initial: time.Second, Max: time.Second, Jitter: reprise.JitterNone})
			}),
			reprise.WithMaxAttempts(3), reprise.WithThrottle(budget), reprise.WithPushback())
		if err != nil {
			t.Fatal(err)
		}
		get := func(failures int, trailer metadata.MD) error {
			s.script(failures, trailer)
			op, err := c.GetOperation(t.Context(), &longrunningpb.GetOperationRequest{Name: "operations/7"}, policy)
			if err == nil && (op.GetName() != "operations/7" || !op.GetDone()) {
				t.Errorf("got %v", op)
			}
			return err
		}
		for _, test := range []struct {
			name     string
			failures int
			trailer  metadata.MD
			pauses   []time.Duration
			code     codes.Code
			tokens   float64
		}{
			{"success", 0, nil, nil, codes.OK, 6},
			{"the Retryer's pauses", 2, nil, []time.Duration{time.Second, time.Second}, codes.OK, 4.5},
			{"success refills the budget", 0, nil, nil, codes.OK, 5},
			{"the server's pause", 1, metadata.Pairs("grpc-retry-pushback-ms", "70"), []time.Duration{70 * time.Millisecond}, codes.OK, 4.5},
			{"the server says no", 1, metadata.Pairs("grpc-retry-pushback-ms", "-1"), nil, codes.Unavailable, 3.5},
			{"the budget is spent", 1, nil, nil, codes.Unavailable, 2.5},
		} {
			err := get(test.failures, test.trailer)
			if status.Code(err) != test.code || !slices.Equal(s.pauses(), test.pauses) || budget.Tokens() != test.tokens {
				t.Errorf("%s: %v, pauses %v, %v tokens", test.name, err, s.pauses(), budget.Tokens())
			}
		}
	})
}

// Without the policy, the client's own default of gax governs the call.
func TestWithoutThePolicyTheServersWordIsNotHeard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := new(server)
		c := client(t, s)
		s.script(1, metadata.Pairs("grpc-retry-pushback-ms", "-1"))
		_, err := c.GetOperation(t.Context(), &longrunningpb.GetOperationRequest{Name: "operations/7"})
		if err != nil || len(s.pauses()) != 1 {
			t.Errorf("%v after pauses %v: gax would have tried again", err, s.pauses())
		}
	})
}
