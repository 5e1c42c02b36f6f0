package grpchealth_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/reprise-go/reprise/services"
	"github.com/reprise-go/reprise/services/grpchealth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	serving    = healthpb.HealthCheckResponse_SERVING
	notServing = healthpb.HealthCheckResponse_NOT_SERVING
	unknown    = healthpb.HealthCheckResponse_SERVICE_UNKNOWN
)

type toggle struct {
	name string
	down atomic.Bool
}

func (s *toggle) Name() string                   { return s.name }
func (s *toggle) HealthReport() map[string]error { return map[string]error{s.name: nil} }
func (s *toggle) Ready() error {
	if s.down.Load() {
		return errors.New("down")
	}
	return nil
}

// dial serves the checker's health and returns a client of it.
func dial(t *testing.T, c *services.HealthChecker) healthpb.HealthClient {
	t.Helper()
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, grpchealth.New(c))
	listener := bufconn.Listen(1 << 16)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///health",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return healthpb.NewHealthClient(conn)
}

func check(t *testing.T, client healthpb.HealthClient, name string, want healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	r, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
	if err != nil || r.GetStatus() != want {
		t.Errorf("%q is %v, %v; want %v", name, r.GetStatus(), err, want)
	}
}

// watch returns a function that waits for the next status of a name.
func watch(t *testing.T, client healthpb.HealthClient, name string) func(want healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{Service: name})
	if err != nil {
		t.Fatal(err)
	}
	return func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		r, err := stream.Recv()
		if err != nil || r.GetStatus() != want {
			t.Fatalf("%q becomes %v, %v; want %v", name, r.GetStatus(), err, want)
		}
	}
}

func TestAGRPCClientSeesWhatTheCheckerKnows(t *testing.T) {
	t.Parallel()
	c := services.HealthCheckerConfig{Interval: 5 * time.Millisecond}.New()
	a, b := &toggle{name: "a"}, &toggle{name: "b"}
	b.down.Store(true)
	for _, s := range []*toggle{a, b} {
		if err := c.Register(s); err != nil {
			t.Fatal(err)
		}
	}
	client := dial(t, c)
	check(t, client, "", notServing)
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "a"}); status.Code(err) != codes.NotFound {
		t.Error(err)
	}
	overall, watchA, watchB := watch(t, client, ""), watch(t, client, "a"), watch(t, client, "b")
	overall(notServing)
	watchA(unknown)
	watchB(unknown)

	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	watchA(serving)
	watchB(notServing)
	check(t, client, "", notServing)

	b.down.Store(false)
	watchB(serving)
	overall(serving)
	a.down.Store(true)
	watchA(notServing)
	overall(notServing)
	check(t, client, "b", serving)
	a.down.Store(false)
	watchA(serving)
	overall(serving)

	if err := c.Unregister("b"); err != nil {
		t.Fatal(err)
	}
	watchB(unknown)
	check(t, client, "", serving)

	c.Drain()
	watchA(notServing)
	overall(notServing)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, client, "", notServing)
}

func TestClosingTheCheckerIsFinal(t *testing.T) {
	t.Parallel()
	c := services.NewChecker("", "")
	if err := c.Register(&toggle{name: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	client := dial(t, c) // late
	check(t, client, "", serving)
	check(t, client, "a", serving)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, client, "", notServing)
	check(t, client, "a", notServing)
}

func TestAnEndedServerCannotBeRevived(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*services.HealthChecker){
		"closed":  func(c *services.HealthChecker) { _ = c.Close() },
		"drained": func(c *services.HealthChecker) { c.Drain() },
	} {
		c := services.NewChecker("", "")
		if err := errors.Join(c.Register(&toggle{name: "a"}), c.Start()); err != nil {
			t.Fatal(err)
		}
		server := grpchealth.New(c)
		end(c)
		for _, service := range []string{"", "a"} {
			server.SetServingStatus(service, serving)
			r, err := server.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
			if err != nil || r.GetStatus() != notServing {
				t.Errorf("%s: %q is %v, %v", name, service, r.GetStatus(), err)
			}
		}
		_ = c.Close()
	}
}

func ExampleNew() { //nolint:testableexamples // a server has no output
	checker := services.NewChecker("", "")
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, grpchealth.New(checker))
	// … register the program's own services, serve, and let services.Run start
	// the checker.
}
