package integration_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/check"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

const oncePrefix = "once/"

// It is the promise of WithExactlyOnce: whatever happens to members, links and
// responses, every acknowledged write is in the history once, none is twice,
// and one order of the operations explains every answer.
func TestExactlyOnceUnderFaults(t *testing.T) {
	t.Parallel()
	ops, log := onceUnderFaults(t, nil)
	must(t, check.Linearizable(ops, time.Minute))
	for _, wrong := range disagreements(ops, log) {
		t.Error(wrong)
	}
	for _, op := range ops {
		if op.Outcome == check.Unknown && op.Kind != check.Get {
			t.Logf("unknown: %+v", op)
		}
	}
}

// It proves the faults strong enough: the same client with its records taken
// out on the way is caught.
func TestWithoutRecordsWritesAreAppliedTwice(t *testing.T) {
	t.Parallel()
	ops, log := onceUnderFaults(t, withoutRecord)
	wrong := disagreements(ops, log)
	if len(wrong) == 0 {
		t.Error("nothing was wrong with the history")
	}
	for _, w := range wrong {
		t.Log(w)
	}
	t.Logf("linearizable: %v", check.Linearizable(ops, time.Minute))
}

// disagreements compares the whole history with what the clients were told, and
// finds what was written more than once.
func disagreements(ops []check.Op, log *check.Log) []string {
	var wrong []string
	times := make(map[string]int)
	for _, ev := range log.Events {
		value := string(ev.Kv.Value)
		if times[value]++; times[value] == 2 {
			wrong = append(wrong, value+" was written twice")
		}
	}
	for _, op := range ops {
		wrote := op.Kind == check.Put || op.Kind == check.CAS && op.Swapped
		switch {
		case op.Kind == check.Get:
		case op.Outcome == check.Applied && wrote && times[op.Value] == 0:
			wrong = append(wrong, fmt.Sprintf("acknowledged and not there: %+v", op))
		case op.Outcome == check.NotApplied && times[op.Value] > 0:
			wrong = append(wrong, fmt.Sprintf("called not applied, and there: %+v", op))
		case op.Outcome == check.Applied && !wrote && times[op.Value] > 0:
			wrong = append(wrong, fmt.Sprintf("swapped, and called not swapped: %+v", op))
		}
	}
	return wrong
}

// onceUnderFaults runs eight clients on three members under every fault there
// is, and returns what the clients saw and what was written.
func onceUnderFaults(t *testing.T, between grpc.UnaryClientInterceptor) ([]check.Op, *check.Log) {
	t.Helper()
	c := etcdtest.New(t, etcdtest.WithMembers(3))
	l := load{clients: 8, keys: 3, pace: 4 * time.Millisecond, timeout: 30 * time.Second, done: new(atomic.Int64)}
	loaders := make([]loader, l.clients)
	twice := &duplicator{rng: rand.New(rand.NewPCG(3, 4))}
	for i := range loaders {
		cfg := c.Config()
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithChainUnaryInterceptor(twice.intercept))
		if between != nil {
			cfg.DialOptions = append(cfg.DialOptions, grpc.WithChainUnaryInterceptor(between))
		}
		cli := newClient(t, cfg, etcdcall.WithExactlyOnce(oncePrefix),
			etcdcall.WithAttemptTimeout(500*time.Millisecond),
			etcdcall.WithBackoff(reprise.Backoff{Initial: 5 * time.Millisecond, Max: 100 * time.Millisecond}))
		loaders[i] = loader{kv: cli.KV, outcome: outcomeForCheck}
	}
	first, err := loaders[0].kv.Put(t.Context(), "key-first", "first")
	must(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var history *check.History
	var wg sync.WaitGroup
	wg.Go(func() { history = l.run(ctx, loaders) })
	wg.Go(func() {
		// A slow machine gets the time to show something.
		for reprise.Sleep(ctx, campaignTime()) == nil && (twice.count() < 40 || l.done.Load() < 50) {
		}
		cancel()
	})
	counts := mayhem(ctx, t, c, l.done)
	wg.Wait()
	twice.wg.Wait()

	last, err := loaders[0].kv.Put(soon(t), "key-last", "last")
	must(t, err)
	truth, err := c.Member(0).Truth()
	must(t, err)
	log, err := check.ReadLog(soon(t), truth, "key", first.Header.GetRevision(), last.Header.GetRevision())
	must(t, err)
	ops := history.Ops()
	outcomes := make(map[check.Outcome]int)
	for _, op := range ops {
		outcomes[op.Outcome]++
	}
	t.Logf("%d operations: %d applied, %d not applied, %d unknown; %v, %d requests sent twice", len(ops),
		outcomes[check.Applied], outcomes[check.NotApplied], outcomes[check.Unknown], counts, twice.count())
	if outcomes[check.Applied] < 20 || twice.count() == 0 || counts["lost responses"] == 0 {
		t.Error("too little happened to prove anything")
	}
	return ops, log
}

// duplicator sends some transactions a second time, somewhat later, as a
// network may do that repeats what it carried.
type duplicator struct {
	mu  sync.Mutex
	rng *rand.Rand
	n   int
	wg  sync.WaitGroup
}

func (d *duplicator) draw() (time.Duration, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rng.IntN(4) != 0 {
		return 0, false
	}
	d.n++
	return time.Duration(d.rng.IntN(200)) * time.Millisecond, true
}

func (d *duplicator) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

func (d *duplicator) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if delay, ok := d.draw(); ok && method == etcdtest.MethodTxn {
		again, answer := proto.CloneOf(req.(*etcdserverpb.TxnRequest)), &etcdserverpb.TxnResponse{}
		d.wg.Go(func() {
			md, _ := metadata.FromOutgoingContext(ctx)
			late, cancel := context.WithTimeout(metadata.NewOutgoingContext(context.Background(), md), delay+2*time.Second)
			defer cancel()
			if reprise.Sleep(late, delay) == nil {
				_ = invoke(late, method, again, answer, cc) // not the options: some are written to
			}
		})
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// withoutRecord takes guard and record out of exactly-once writes, and adds to
// the response what the client expects there.
func withoutRecord(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	txn, ok := req.(*etcdserverpb.TxnRequest)
	if !ok || len(txn.Compare) != 1 || !bytes.HasPrefix(txn.Compare[0].Key, []byte(oncePrefix)) {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	bare := proto.CloneOf(txn)
	bare.Compare = nil
	inner := bare
	if nested := bare.Success[0].GetRequestTxn(); nested != nil {
		inner = nested
		nested.Failure = nested.Failure[:len(nested.Failure)-1]
	}
	inner.Success = inner.Success[:len(inner.Success)-1]
	err := invoke(ctx, method, bare, reply, cc, opts...)
	answer := reply.(*etcdserverpb.TxnResponse)
	if err == nil && inner != bare {
		answer = answer.Responses[0].GetResponseTxn()
	}
	answer.Responses = append(answer.Responses, &etcdserverpb.ResponseOp{
		Response: &etcdserverpb.ResponseOp_ResponsePut{ResponsePut: &etcdserverpb.PutResponse{}},
	})
	return err
}

// mayhem does something bad to a member or a link at random, again and again,
// and mends it after some time, until ctx ends. It returns what it did. Between
// two troubles done, which counts the calls that succeeded, has to grow.
func mayhem(ctx context.Context, t *testing.T, c *etcdtest.Cluster, done *atomic.Int64) map[string]int {
	t.Helper()
	rng := rand.New(rand.NewPCG(5, 6))
	mend := context.WithoutCancel(ctx)
	lost := keepLosing(ctx, t, c)
	did := make(map[string]int)
	for ctx.Err() == nil {
		m := c.Member(rng.IntN(3))
		for _, trouble := range []struct {
			name        string
			begin, over func() error
		}{
			{"kill", m.Kill, func() error { return m.Restart(mend) }},
			{"isolate", func() error { return c.Isolate(m) }, c.HealPeers},
			{"cut", m.ClientLink().Cut, m.ClientLink().Heal},
			{"swallow", func() error { return m.ClientLink().BlackHole(etcdtest.Responses) }, m.ClientLink().Heal},
			{"delay", func() error { return m.ClientLink().Delay(etcdtest.Both, 30*time.Millisecond) }, m.ClientLink().Heal},
		}[rng.IntN(5):][:1] {
			did[trouble.name]++
			must(t, trouble.begin())
			_ = reprise.Sleep(ctx, time.Duration(50+rng.IntN(150))*time.Millisecond)
			must(t, trouble.over())
		}
		_ = reprise.Sleep(ctx, time.Duration(100+rng.IntN(300))*time.Millisecond)
		breathe(ctx, done)
	}
	did["lost responses"] = lost()
	return did
}

// keepLosing loses the response to one transaction after another until ctx
// ends. The function that it returns waits for that and tells how many.
func keepLosing(ctx context.Context, t *testing.T, c *etcdtest.Cluster) func() int {
	t.Helper()
	n := 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			loss, err := c.Inject(etcdtest.Fault{Method: etcdtest.MethodTxn, After: true, Answer: etcdtest.Lose()})
			if err != nil {
				t.Error(err)
				return
			}
			_ = loss.Wait(ctx)
			n += loss.Fired()
			loss.Stop()
			_ = reprise.Sleep(ctx, 60*time.Millisecond)
		}
	})
	return func() int { wg.Wait(); return n }
}
