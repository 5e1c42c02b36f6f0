package concurrency_test

import (
	"context"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// asked keeps the transactions that members were asked for.
type asked struct {
	mu   sync.Mutex
	txns []*pb.TxnRequest
}

func (a *asked) option() etcdtest.Option {
	return etcdtest.WithServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if txn, ok := req.(*pb.TxnRequest); ok {
				a.mu.Lock()
				a.txns = append(a.txns, txn)
				a.mu.Unlock()
			}
			return handler(ctx, req)
		}))
}

// take returns those since the last call.
func (a *asked) take() []*pb.TxnRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	txns := a.txns
	a.txns = nil
	return txns
}

// TestAFreeLockIsTakenWithoutReadingWhoElseIsThere looks into the requests: to read
// costs no round trip, but the server.
func TestAFreeLockIsTakenWithoutReadingWhoElseIsThere(t *testing.T) {
	t.Parallel()
	var a asked
	c := etcdtest.New(t, a.option())
	holder, s := concurrency.NewMutex(session(t, newClient(t, c)), "lock"), session(t, newClient(t, c))
	m, e := concurrency.NewMutex(s, "lock"), concurrency.NewElection(s, "election")
	take := func(what string, take func(context.Context) error, reading bool) {
		t.Helper()
		a.take()
		must(t, take(soon(t)))
		txns := a.take()
		if len(txns) != 1 {
			t.Fatalf("%s: %d requests", what, len(txns))
		}
		if ops := len(txns[0].Success) + len(txns[0].Failure); (ops > 1) != reading {
			t.Errorf("%s: %d operations, reading: %v", what, ops, !reading)
		}
	}
	campaign := func(ctx context.Context) error { return e.Campaign(ctx, "x") }
	for range 2 {
		take("Lock", m.Lock, false)
		take("Campaign", campaign, false)
		must(t, m.Unlock(soon(t)))
		must(t, e.Resign(soon(t)))
	}
	// Who had to wait reads at once the next time, and no longer if it need not
	// have.
	must(t, holder.Lock(soon(t)))
	waiting := lockInBackground(t, m.Lock)
	until(t, "the waiter", func() bool { return len(keys(t, c, "lock/")) == 2 })
	must(t, holder.Unlock(soon(t)))
	must(t, <-waiting)
	for _, reading := range []bool{true, false} {
		must(t, m.Unlock(soon(t)))
		take("Lock after waiting", m.Lock, reading)
	}
}

func TestALeaderWhoCampaignsOnlyProclaims(t *testing.T) {
	t.Parallel()
	var a asked
	c := etcdtest.New(t, a.option())
	e := concurrency.NewElection(session(t, newClient(t, c)), "election")
	must(t, e.Campaign(soon(t), "one"))
	ctx := e.Ctx()
	for _, proclaim := range []func(context.Context, string) error{e.Proclaim, e.Campaign, e.Campaign} {
		a.take()
		must(t, proclaim(soon(t), "two"))
		if txns := a.take(); len(txns) != 1 {
			t.Errorf("%d requests", len(txns))
		}
	}
	must(t, e.Resign(soon(t)))
	if ctx.Err() == nil {
		t.Error("the context is not that of the leadership any more")
	}
}
