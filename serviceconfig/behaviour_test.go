package serviceconfig_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/reprise-go/reprise/serviceconfig"
)

// A step is how one attempt fares.
type step struct {
	code     codes.Code
	pushback []string // values of the trailer
}

// A scripted server lets its attempts fare as its steps say, the last for ever.
type scripted struct {
	healthpb.UnimplementedHealthServer

	mu    sync.Mutex
	steps []step
	made  int
}

func (s *scripted) next() step {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := min(s.made, len(s.steps)-1)
	s.made++
	return s.steps[at]
}

// taken returns how many attempts were made and counts anew.
func (s *scripted) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.made
	s.made = 0
	return n
}

func (s *scripted) answer(set func(metadata.MD)) error {
	st := s.next()
	if len(st.pushback) > 0 {
		set(metadata.MD{"grpc-retry-pushback-ms": st.pushback})
	}
	return status.Error(st.code, "as the script says")
}

func (s *scripted) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{}, s.answer(func(md metadata.MD) { _ = grpc.SetTrailer(ctx, md) })
}

func (s *scripted) Watch(_ *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	if err := s.answer(stream.SetTrailer); err != nil {
		return err
	}
	return stream.Send(&healthpb.HealthCheckResponse{})
}

// dialWith returns a client of a server that fares as steps say.
func dialWith(t *testing.T, steps []step, opts ...grpc.DialOption) (healthpb.HealthClient, *scripted) {
	t.Helper()
	s := &scripted{steps: steps}
	listener := bufconn.Listen(1 << 16)
	g := grpc.NewServer()
	healthpb.RegisterHealthServer(g, s)
	go g.Serve(listener)
	t.Cleanup(g.Stop)
	conn, err := grpc.NewClient("passthrough:///scripted", append(opts,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return healthpb.NewHealthClient(conn), s
}

func check(ctx context.Context, c healthpb.HealthClient) error {
	_, err := c.Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

func watch(ctx context.Context, c healthpb.HealthClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}

func policyFor(name, more string) string {
	return `{"methodConfig": [{"name": [` + name + `], "retryPolicy": {"maxAttempts": 9, "initialBackoff": "0.001s", ` +
		`"maxBackoff": "0.002s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE", "ABORTED"]}}]` + more + `}`
}

func fails(n int, code codes.Code) []step {
	return append(slices.Repeat([]step{{code: code}}, n), step{})
}

// TestAConfigIsFollowedAsGRPCFollowsIt makes the same calls by a connection
// that retries itself and by one whose interceptors follow a Policy.
func TestAConfigIsFollowedAsGRPCFollowsIt(t *testing.T) {
	t.Parallel()
	all := policyFor(`{}`, ``)
	for _, tt := range []struct {
		name, doc string
		steps     []step
		calls     int
		attempts  []int // of each call, as A6 has it
	}{
		{"success", all, fails(0, 0), 1, []int{1}},
		{"two failures", all, fails(2, codes.Unavailable), 1, []int{3}},
		{"another code of the list", all, fails(2, codes.Aborted), 1, []int{3}},
		{"a code that is not listed", all, fails(2, codes.Internal), 1, []int{1}},
		{"the client's limit", all, fails(99, codes.Unavailable), 1, []int{5}},
		{"entry of the service", policyFor(`{"service": "grpc.health.v1.Health"}`, ``), fails(2, codes.Unavailable), 1, []int{3}},
		{"entry of another service", policyFor(`{"service": "a.B"}`, ``), fails(2, codes.Unavailable), 1, []int{1}},
		{"pushback", all, []step{{codes.Unavailable, []string{"1"}}, {codes.Unavailable, []string{"0"}}, {}}, 1, []int{3}},
		{"pushback that stops", all, []step{{codes.Unavailable, []string{"-1"}}, {}}, 1, []int{1}},
		{"pushback that is no number", all, []step{{codes.Unavailable, []string{"soon"}}, {}}, 1, []int{1}},
		{"two pushbacks", all, []step{{codes.Unavailable, []string{"1", "1"}}, {}}, 1, []int{1}},
		{"throttled", policyFor(`{}`, `, "retryThrottling": {"maxTokens": 6, "tokenRatio": 0.5}`),
			fails(99, codes.Unavailable), 3, []int{3, 1, 1}},
		{"throttled, with a code that does not count", policyFor(`{}`, `, "retryThrottling": {"maxTokens": 6, "tokenRatio": 0.5}`),
			fails(99, codes.Internal), 3, []int{1, 1, 1}},
	} {
		for kind, call := range map[string]func(context.Context, healthpb.HealthClient) error{"unary": check, "stream": watch} {
			p := serviceconfig.NewPolicy(mustParse(t, tt.doc))
			ours, our := dialWith(t, tt.steps, grpc.WithDisableRetry(),
				grpc.WithUnaryInterceptor(p.UnaryClientInterceptor()), grpc.WithStreamInterceptor(p.StreamClientInterceptor()))
			theirs, their := dialWith(t, tt.steps, grpc.WithDefaultServiceConfig(tt.doc))
			for i := range tt.calls {
				err, theirErr := call(t.Context(), ours), call(t.Context(), theirs)
				if status.Code(err) != status.Code(theirErr) {
					t.Errorf("%s, %s, call %d: got %v, grpc-go %v", tt.name, kind, i+1, err, theirErr)
				}
				if n, m := our.taken(), their.taken(); n != m || n != tt.attempts[i] {
					t.Errorf("%s, %s, call %d: got %d attempts, grpc-go %d, want %d", tt.name, kind, i+1, n, m, tt.attempts[i])
				}
			}
		}
	}
}
