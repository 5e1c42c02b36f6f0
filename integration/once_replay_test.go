package integration_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// forgetful is a client interceptor that keeps the response of the next
// transaction to itself and tells the caller that the connection broke.
type forgetful struct {
	mu   sync.Mutex
	on   bool
	kept *etcdserverpb.TxnResponse
}

func (f *forgetful) arm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on, f.kept = true, nil
}

func (f *forgetful) response() *etcdserverpb.TxnResponse {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.kept
}

func (f *forgetful) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || !f.on || method != etcdtest.MethodTxn {
		return err
	}
	f.on, f.kept = false, proto.CloneOf(reply.(*etcdserverpb.TxnResponse))
	return status.Error(codes.Unavailable, "the response was kept from the client")
}

// newForgetful returns a client that writes exactly once, and the interceptor
// that loses its responses. There are keys in the store.
func newForgetful(t *testing.T) (*clientv3.Client, *forgetful) {
	t.Helper()
	lossy := &forgetful{}
	cfg := etcdtest.New(t).Config()
	cfg.DialOptions = append(cfg.DialOptions, grpc.WithChainUnaryInterceptor(lossy.intercept))
	cli := newClient(t, cfg, etcdcall.WithExactlyOnce("first/"),
		etcdcall.WithBackoff(reprise.Backoff{Initial: time.Millisecond, Max: 10 * time.Millisecond}))
	if _, err := cli.Txn(t.Context()).Then(alike()...).Commit(); err != nil {
		t.Fatal(err)
	}
	return cli, lossy
}

// TestRecoveredResponsesEqualTheOriginals runs transactions made at random. Each
// is applied by a first attempt whose response only the test sees, so that the
// client has to rebuild it.
func TestRecoveredResponsesEqualTheOriginals(t *testing.T) {
	t.Parallel()
	cli, lossy := newForgetful(t)
	gen := &txnGenerator{rng: rand.New(rand.NewPCG(1, 2))}
	recovered := 0
	for range 150 {
		lossy.arm()
		req := gen.txn(cli.KV, t.Context())
		got, err := req.Commit()
		if errors.Is(err, rpctypes.ErrDuplicateKey) || errors.Is(err, rpctypes.ErrKeyNotFound) {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", gen.log, err)
		}
		want := original(lossy.response(), gen.flat, gen.shape)
		if !proto.Equal(want, (*etcdserverpb.TxnResponse)(got)) {
			t.Fatalf("%s:\n got %v\nwant %v", gen.log, got, want)
		}
		recovered++
	}
	if recovered < 40 {
		t.Errorf("only %d of 150 transactions were applied", recovered)
	}
	t.Logf("%d responses rebuilt", recovered)
}

// rare are transactions that chance makes too seldom. There is a key k6 with the
// lease, and none that is called nobody.
func rare(lease clientv3.LeaseID) map[string]rareTxn {
	all := clientv3.OpGet("k", clientv3.WithPrefix())
	// etcd refuses a put in a range that the transaction deletes, unless the
	// range has no end.
	endless := clientv3.OpDelete("k5", clientv3.WithFromKey(), clientv3.WithPrevKV())
	put := clientv3.OpPut("k5", "v", clientv3.WithPrevKV())
	leased := clientv3.OpPut("k6", "w", clientv3.WithLease(lease))
	sorted := func(by clientv3.SortTarget, order clientv3.SortOrder) clientv3.Op {
		return clientv3.OpGet("k", clientv3.WithPrefix(), clientv3.WithSort(by, order), clientv3.WithLimit(3))
	}
	keys := func(by clientv3.SortTarget) clientv3.Op {
		return clientv3.OpGet("k6", clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithSort(by, clientv3.SortDescend))
	}
	nested := clientv3.OpTxn(nil, []clientv3.Op{all}, []clientv3.Op{clientv3.OpTxn(nil, []clientv3.Op{all}, nil)})
	last := clientv3.OpTxn(nil, []clientv3.Op{put}, nil)
	return map[string]rareTxn{
		"put before an endless delete": {then: []clientv3.Op{put, all, endless, all}},
		"put after an endless delete":  {then: []clientv3.Op{endless, all, put, all}},
		"put between endless deletes":  {then: []clientv3.Op{endless, put, all, endless, all}},
		"first keys, then their order": {then: []clientv3.Op{
			clientv3.OpPut("k5/00", "w"), clientv3.OpPut("k5/01", "w"), sorted(clientv3.SortByModRevision, clientv3.SortNone)}},
		"order, then the first keys": {then: []clientv3.Op{put, sorted(clientv3.SortByModRevision, clientv3.SortAscend)}},
		"keys that compare equal":    {then: []clientv3.Op{put, sorted(clientv3.SortByVersion, clientv3.SortDescend)}},
		"a lease that is kept":       {then: []clientv3.Op{clientv3.OpPut("k6", "w", clientv3.WithIgnoreLease()), all}},
		"keys without their leases":  {then: []clientv3.Op{leased, keys(clientv3.SortByKey)}},
		"keys with their leases":     {then: []clientv3.Op{leased, keys(clientv3.SortByValue)}},
		"else, nested in both": {
			cmps:      []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision("nobody"), ">", 0)},
			then:      []clientv3.Op{nested},
			otherwise: []clientv3.Op{nested, last},
			shape:     shape{otherwise: map[int]*shape{0: {}, 1: {}}},
		},
		"then, nested after nested": {then: []clientv3.Op{nested, last}, shape: shape{then: map[int]*shape{0: {}, 1: {}}}},
	}
}

type rareTxn struct {
	cmps            []clientv3.Cmp
	then, otherwise []clientv3.Op
	shape           shape
}

// TestRecoveredResponsesToRareTransactionsEqualTheOriginals is the same for
// transactions that chance makes too seldom.
func TestRecoveredResponsesToRareTransactionsEqualTheOriginals(t *testing.T) {
	t.Parallel()
	cli, lossy := newForgetful(t)
	lease, err := cli.Grant(t.Context(), 600)
	must(t, err)
	for name, txn := range rare(lease.ID) {
		_, err := cli.Txn(t.Context()).Then(append(alike(), clientv3.OpPut("k6", "v", clientv3.WithLease(lease.ID)))...).Commit()
		must(t, err)
		lossy.arm()
		got, err := cli.Txn(t.Context()).If(txn.cmps...).Then(txn.then...).Else(txn.otherwise...).Commit()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want := original(lossy.response(), txn.cmps == nil, &txn.shape); !proto.Equal(want, (*etcdserverpb.TxnResponse)(got)) {
			t.Errorf("%s:\n got %v\nwant %v", name, got, want)
		}
	}
}

// original takes the user's response out of what the server answered: the
// client puts its record last in each branch, and the whole into a transaction
// of its own if it has more than one branch.
func original(resp *etcdserverpb.TxnResponse, flat bool, s *shape) *etcdserverpb.TxnResponse {
	out := resp
	if !flat {
		out = resp.GetResponses()[0].GetResponseTxn()
		out.Header = resp.GetHeader()
	}
	s.strip(out)
	return out
}

// shape says where the nested transactions of a transaction are.
type shape struct{ then, otherwise map[int]*shape }

func (s *shape) strip(resp *etcdserverpb.TxnResponse) {
	resp.Responses = resp.Responses[:len(resp.Responses)-1]
	nested := s.then
	if !resp.Succeeded {
		nested = s.otherwise
	}
	for i, n := range nested {
		n.strip(resp.Responses[i].GetResponseTxn())
	}
}

// alike returns puts of more keys than a sort leaves in their order, between
// which no target of a sort but the key tells.
func alike() []clientv3.Op {
	var puts []clientv3.Op
	for i := range 30 {
		puts = append(puts, clientv3.OpPut(fmt.Sprintf("k5/%02d", i), "v"))
	}
	return puts
}

// txnGenerator makes transactions over a handful of keys, so that reads meet
// the transaction's own writes.
type txnGenerator struct {
	rng   *rand.Rand
	n     int
	flat  bool
	shape *shape
	log   string

	// overlapping transactions put keys in ranges that they delete, which etcd
	// lets pass where the range has no end. It dies of an ignored value or lease
	// there (as of 3.7.3).
	overlapping bool
}

func (g *txnGenerator) txn(kv clientv3.KV, ctx context.Context) clientv3.Txn {
	g.log = ""
	g.overlapping = g.rng.IntN(3) == 0
	cmps := g.cmps()
	then, s1 := g.ops(2)
	otherwise, s2 := g.ops(2)
	if g.rng.IntN(3) == 0 {
		cmps, otherwise = nil, nil
	}
	then = append(then, g.put())
	g.flat = len(cmps) == 0 && len(otherwise) == 0
	g.shape = &shape{s1, s2}
	return kv.Txn(ctx).If(cmps...).Then(then...).Else(otherwise...)
}

func (g *txnGenerator) key() string { return fmt.Sprintf("k%d", g.rng.IntN(6)) }

func (g *txnGenerator) note(format string, args ...any) {
	g.log += fmt.Sprintf(format, args...) + "; "
}

func (g *txnGenerator) cmps() []clientv3.Cmp {
	var out []clientv3.Cmp
	for range g.rng.IntN(2) {
		k := g.key()
		g.note("if %s exists", k)
		out = append(out, clientv3.Compare(clientv3.CreateRevision(k), ">", 0))
	}
	return out
}

func (g *txnGenerator) ops(depth int) ([]clientv3.Op, map[int]*shape) {
	var out []clientv3.Op
	nested := map[int]*shape{}
	for range g.rng.IntN(4) {
		switch n := g.rng.IntN(10); {
		case n < 2:
			out = append(out, g.put())
		case n < 4:
			out = append(out, g.del())
		case n < 7 || depth == 0:
			out = append(out, g.get())
		default:
			g.note("[")
			cmps := g.cmps()
			then, s1 := g.ops(depth - 1)
			g.note("|")
			otherwise, s2 := g.ops(depth - 1)
			g.note("]")
			nested[len(out)] = &shape{s1, s2}
			out = append(out, clientv3.OpTxn(cmps, then, otherwise))
		}
	}
	return out, nested
}

func (g *txnGenerator) put() clientv3.Op {
	g.n++
	k := g.key()
	g.note("put %s %d", k, g.n)
	switch n := g.rng.IntN(6); {
	case n == 0 && !g.overlapping:
		return clientv3.OpPut(k, "", clientv3.WithIgnoreValue())
	case n == 1 && !g.overlapping:
		return clientv3.OpPut(k, fmt.Sprint(g.n), clientv3.WithIgnoreLease(), clientv3.WithPrevKV())
	case n <= 3:
		return clientv3.OpPut(k, fmt.Sprint(g.n), clientv3.WithPrevKV())
	default:
		return clientv3.OpPut(k, fmt.Sprint(g.n))
	}
}

func (g *txnGenerator) del() clientv3.Op {
	k := g.key()
	g.note("delete from %s", k)
	switch n := g.rng.IntN(4); {
	case g.overlapping && n < 2:
		return clientv3.OpDelete(k, clientv3.WithFromKey())
	case n == 0:
		return clientv3.OpDelete(k)
	case n == 1:
		return clientv3.OpDelete(k, clientv3.WithRange("k9"), clientv3.WithPrevKV())
	case n == 2:
		return clientv3.OpDelete(k, clientv3.WithRange("k4"))
	default:
		return clientv3.OpDelete(k, clientv3.WithPrevKV())
	}
}

func (g *txnGenerator) get() clientv3.Op {
	opts := []clientv3.OpOption{clientv3.WithPrefix()}
	k := "k"
	switch g.rng.IntN(9) {
	case 0, 1, 2:
		k, opts = g.key(), nil
	case 3:
		k = "" // the records too
	}
	maybe := func(n int, opt clientv3.OpOption) {
		if g.rng.IntN(n) == 0 {
			opts = append(opts, opt)
		}
	}
	maybe(4, clientv3.WithLimit(2))
	maybe(6, clientv3.WithCountOnly())
	maybe(4, clientv3.WithKeysOnly())
	maybe(6, clientv3.WithMinModRev(20))
	maybe(6, clientv3.WithMaxCreateRev(40))
	maybe(3, clientv3.WithSort(clientv3.SortTarget(g.rng.IntN(5)), clientv3.SortOrder(g.rng.IntN(3))))
	g.note("get %s with %d options", k, len(opts))
	return clientv3.OpGet(k, opts...)
}
