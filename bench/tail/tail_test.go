package main

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"

	"github.com/reprise-go/reprise"
)

// In virtual time the figures are those of the policy alone, whatever else the
// machine does.
func TestHedgingCutsTheTailForFewMoreRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lis := bufconn.Listen(1 << 20)
		dial := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) })
		err := withServer(lis, "passthrough:///tail", 1, []grpc.DialOption{dial}, func(s *server, client testpb.TestServiceClient) error {
			var sides [2]side
			for i, call := range []*reprise.Unary[testpb.Empty, testpb.Empty]{
				reprise.NewUnary(client.EmptyCall), reprise.NewUnary(client.EmptyCall, hedging(25*time.Millisecond)),
			} {
				s.requests.Store(0)
				times, err := measure(call, 5000, 50)
				if err != nil {
					return err
				}
				sides[i] = side{times: times, requests: s.requests.Load()}
			}
			if p, h := sides[0].quantile(0.999), sides[1].quantile(0.999); p != slow || h != 35*time.Millisecond {
				t.Errorf("p99.9 is %v plain and %v hedged, want %v and 35ms", p, h, slow)
			}
			if more := sides[1].more(); more <= 0 || more > 0.03 {
				t.Errorf("%.4f more requests", more)
			}
			if sides[0].more() != 0 {
				t.Error("the plain side made more requests than calls")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestTheCommandPrintsItsTable(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := run(&b, 200, 50, 25*time.Millisecond, 1); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"200 calls", "one attempt", "hedged after 25ms", "times lower"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}
