package concurrency_test

import (
	"context"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

// gate stands before the members of a cluster. It holds the requests back that a
// test has asked for: they are handled when the test lets them through, also those
// that their clients have given up by then.
type gate struct {
	mu    sync.Mutex
	holds []*hold
}

// hold is some of the requests at a gate.
type hold struct {
	match   func(req any) bool
	left    int           // how many more are held, negative: all
	arrived chan struct{} // closed when the first is there
	first   sync.Once
	open    chan struct{}
	opened  sync.Once
	waiting sync.WaitGroup
}

func (g *gate) option() etcdtest.Option {
	return etcdtest.WithServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if h := g.stops(req); h != nil {
				defer h.waiting.Done()
				h.first.Do(func() { close(h.arrived) })
				<-h.open
				ctx = context.WithoutCancel(ctx)
			}
			return handler(ctx, req)
		}))
}

func (g *gate) stops(req any) *hold {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range g.holds {
		if h.left != 0 && h.match(req) {
			h.left--
			h.waiting.Add(1)
			return h
		}
	}
	return nil
}

// hold holds the next n requests back that match, or all if n is negative.
func (g *gate) hold(t *testing.T, n int, match func(req any) bool) *hold {
	t.Helper()
	h := &hold{match: match, left: n, arrived: make(chan struct{}), open: make(chan struct{})}
	g.mu.Lock()
	g.holds = append(g.holds, h)
	g.mu.Unlock()
	t.Cleanup(func() { g.let(h) })
	return h
}

// let ends h: what it holds is let through, and has been handled when let returns.
func (g *gate) let(h *hold) {
	g.mu.Lock()
	h.left = 0
	g.mu.Unlock()
	h.opened.Do(func() { close(h.open) })
	h.waiting.Wait()
}

// await waits until the first request is held.
func (h *hold) await(t *testing.T, what string) {
	t.Helper()
	select {
	case <-h.arrived:
	case <-soon(t).Done():
		t.Fatalf("still waiting for: %s", what)
	}
}

// puts, deletes and reads say what a request does first, if its comparisons hold.
func puts(req any) bool {
	txn, _ := req.(*pb.TxnRequest)
	return len(txn.GetSuccess()) > 0 && txn.Success[0].GetRequestPut() != nil
}

func deletes(req any) bool {
	if _, plain := req.(*pb.DeleteRangeRequest); plain {
		return true
	}
	txn, _ := req.(*pb.TxnRequest)
	return len(txn.GetSuccess()) > 0 && txn.Success[0].GetRequestDeleteRange() != nil
}

func reads(req any) bool {
	_, plain := req.(*pb.RangeRequest)
	return plain
}
