package integration_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// A kvFault is something that happens to one KV call of a connected client,
// and what is true afterwards.
type kvFault struct {
	name string
	// strike arms the fault.
	strike func(t *testing.T, c *etcdtest.Cluster)
	// stranger tells that the client is not connected yet when it strikes.
	stranger bool
	// call makes the call that is hit.
	call func(ctx context.Context, cli *clientv3.Client) error
	// patience is how long the caller waits at most; zero means until the end.
	patience time.Duration
	// raw is what clientv3 makes of it.
	raw verdict
	// reprise is what etcdcall makes of it: the outcome it tells, nil error
	// included, and how many times the write was applied by then.
	reprise told
}

// A verdict is what the caller is told, and how many times the call's write
// was applied by then.
type verdict struct {
	ok      bool // no error
	code    codes.Code
	applied int64
}

// What etcdcall tells about a call, and how many times its write was applied.
type told struct {
	outcome etcdcall.Outcome
	applied int64
}

// Keys that kvFault calls use. written exists, with version 1, from the start.
const (
	fresh   = "fresh"
	written = "written"
)

func put(ctx context.Context, cli *clientv3.Client) error {
	_, err := cli.Put(ctx, fresh, "value")
	return err
}

func txnPut(ctx context.Context, cli *clientv3.Client) error {
	_, err := cli.Txn(ctx).Then(clientv3.OpPut(fresh, "value")).Commit()
	return err
}

func txnGet(ctx context.Context, cli *clientv3.Client) error {
	_, err := cli.Txn(ctx).Then(clientv3.OpGet(written)).Commit()
	return err
}

func get(ctx context.Context, cli *clientv3.Client) error {
	_, err := cli.Get(ctx, written)
	return err
}

func deleteIt(ctx context.Context, cli *clientv3.Client) error {
	_, err := cli.Delete(ctx, written)
	return err
}

func compact(ctx context.Context, cli *clientv3.Client) error {
	_, err := cli.Compact(ctx, 2)
	return err
}

// inject arms a fault for the next calls of a method.
func inject(f etcdtest.Fault) func(*testing.T, *etcdtest.Cluster) {
	return func(t *testing.T, c *etcdtest.Cluster) {
		t.Helper()
		_, err := c.Inject(f)
		must(t, err)
	}
}

// lose loses the next response to a method, after the server did its work.
func lose(method string) func(*testing.T, *etcdtest.Cluster) {
	return inject(etcdtest.Fault{Method: method, After: true, Answer: etcdtest.Lose()})
}

// answer makes the server do its work and then say something else.
func answer(n int, with etcdtest.Answer) func(*testing.T, *etcdtest.Cluster) {
	return inject(etcdtest.Fault{Method: etcdtest.MethodPut, Calls: n, After: true, Answer: with})
}

// onLink breaks the network between the client and the member.
func onLink(f func(*etcdtest.Link) error) func(*testing.T, *etcdtest.Cluster) {
	return func(t *testing.T, c *etcdtest.Cluster) {
		t.Helper()
		must(t, f(c.Member(0).ClientLink()))
	}
}

// impatient is a caller who does not wait until a connection comes about, patient
// one who certainly waits until the request has been sent and acted on.
const (
	impatient = 150 * time.Millisecond
	patient   = 3 * time.Second
)

// kvFaults is every way known to lose a KV call between a client and a member,
// with what clientv3 does about it on its own.
var kvFaults = []kvFault{
	{
		name: "Put, response lost", strike: lose(etcdtest.MethodPut), call: put,
		raw:     verdict{code: codes.Unavailable, applied: 1},
		reprise: told{etcdcall.Unknown, 1},
	},
	{
		name: "writing Txn, response lost", strike: lose(etcdtest.MethodTxn), call: txnPut,
		raw:     verdict{code: codes.Unavailable, applied: 1},
		reprise: told{etcdcall.Unknown, 1},
	},
	{
		name: "Delete, response lost", strike: lose(etcdtest.MethodDelete), call: deleteIt,
		raw:     verdict{code: codes.Unavailable, applied: 1},
		reprise: told{etcdcall.Unknown, 1},
	},
	{
		name: "Compact, response lost", strike: lose(etcdtest.MethodCompact), call: compact,
		raw:     verdict{code: codes.Unavailable, applied: 1},
		reprise: told{etcdcall.Applied, 1},
	},
	{
		// A read, which clientv3 takes for a write.
		name: "read-only Txn, response lost", strike: lose(etcdtest.MethodTxn), call: txnGet,
		raw:     verdict{code: codes.Unavailable},
		reprise: told{etcdcall.Applied, 0},
	},
	{
		name: "Get, response lost", strike: lose(etcdtest.MethodRange), call: get,
		raw:     verdict{ok: true},
		reprise: told{etcdcall.Applied, 0},
	},
	{
		name: "Put, response swallowed", call: put, patience: patient,
		strike:  onLink(func(l *etcdtest.Link) error { return l.BlackHole(etcdtest.Responses) }),
		raw:     verdict{code: codes.DeadlineExceeded, applied: 1},
		reprise: told{etcdcall.Unknown, 1},
	},
	{
		// The same error as above, and another truth.
		name: "Put, request swallowed", call: put, patience: patient,
		strike:  onLink(func(l *etcdtest.Link) error { return l.BlackHole(etcdtest.Requests) }),
		raw:     verdict{code: codes.DeadlineExceeded},
		reprise: told{etcdcall.Unknown, 0},
	},
	{
		// And again.
		name: "Put, connection refused", call: put, patience: impatient, stranger: true,
		strike:  onLink((*etcdtest.Link).Cut),
		raw:     verdict{code: codes.DeadlineExceeded},
		reprise: told{etcdcall.NotApplied, 0},
	},
	{
		name: "Put, the server answers Canceled three times", call: put,
		strike:  answer(3, etcdtest.Fail(status.Error(codes.Canceled, "context canceled"))),
		raw:     verdict{ok: true, applied: 4},
		reprise: told{etcdcall.Unknown, 1},
	},
	{
		name: "Put, the server answers DeadlineExceeded three times", call: put,
		strike:  answer(3, etcdtest.Fail(status.Error(codes.DeadlineExceeded, "context deadline exceeded"))),
		raw:     verdict{ok: true, applied: 4},
		reprise: told{etcdcall.Unknown, 1},
	},
	{
		name: "Put, a hop resets the stream twice", call: put,
		strike:  answer(2, etcdtest.ResetStream(http2.ErrCodeCancel)),
		raw:     verdict{ok: true, applied: 3},
		reprise: told{etcdcall.Unknown, 1},
	},
	{
		name: "Put, the server says it timed out", call: put,
		strike:  answer(1, etcdtest.Fail(rpctypes.ErrTimeout)),
		raw:     verdict{code: codes.Unavailable, applied: 1},
		reprise: told{etcdcall.Unknown, 1},
	},
}

// applied returns how many times a write of kvFaults was applied, whatever
// anybody was told.
func applied(t *testing.T, c *etcdtest.Cluster) int64 {
	t.Helper()
	truth, err := c.Member(0).Truth()
	must(t, err)
	r, err := truth.Get(soon(t), fresh)
	must(t, err)
	var n int64
	for _, kv := range r.Kvs {
		n += kv.Version
	}
	if r, err = truth.Get(soon(t), written); err != nil {
		t.Fatal(err)
	} else if r.Count == 0 {
		n++
	}
	if _, err = truth.Get(soon(t), written, clientv3.WithRev(1)); errors.Is(err, rpctypes.ErrCompacted) {
		n++
	}
	return n
}

// struck starts a member with one key, makes a client from the member's
// configuration, connects it, and arms the fault.
func (f *kvFault) struck(t *testing.T, connect func(clientv3.Config) (*clientv3.Client, error)) (*etcdtest.Cluster, *clientv3.Client) {
	t.Helper()
	c := etcdtest.New(t)
	cli, err := connect(c.Config())
	must(t, err)
	t.Cleanup(func() { _ = cli.Close() }) // it says that its context was cancelled
	truth, err := c.Member(0).Truth()
	must(t, err)
	_, err = truth.Put(soon(t), written, "value")
	must(t, err)
	if !f.stranger {
		_, err = cli.Get(soon(t), written)
		must(t, err)
	}
	f.strike(t, c)
	return c, cli
}

// do makes the call, with the caller's patience.
func (f *kvFault) do(t *testing.T, cli *clientv3.Client) error {
	t.Helper()
	ctx := soon(t)
	if f.patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.patience)
		defer cancel()
	}
	return f.call(ctx, cli)
}

// codeOf finds the gRPC code in what clientv3 returns.
func codeOf(err error) codes.Code {
	var etcd rpctypes.EtcdError
	switch {
	case errors.As(err, &etcd):
		return etcd.Code()
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	default:
		return status.Code(err)
	}
}

// It proves that the faults are real: what follows for Reprise is only worth
// something if clientv3 alone is hurt.
func TestRawClientUnderKVFaults(t *testing.T) {
	t.Parallel()
	for _, f := range kvFaults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			c, cli := f.struck(t, clientv3.New)
			err := f.do(t, cli)
			if (err == nil) != f.raw.ok || err != nil && codeOf(err) != f.raw.code {
				t.Errorf("got %v, want ok %v, code %v", err, f.raw.ok, f.raw.code)
			}
			if got := applied(t, c); got != f.raw.applied {
				t.Errorf("applied %d times, want %d", got, f.raw.applied)
			}
		})
	}
}

func TestRepriseUnderKVFaults(t *testing.T) {
	t.Parallel()
	for _, f := range kvFaults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			c, cli := f.struck(t, func(cfg clientv3.Config) (*clientv3.Client, error) { return etcdcall.New(cfg) })
			err := f.do(t, cli)
			if got := etcdcall.OutcomeOf(err); got != f.reprise.outcome {
				t.Errorf("told %v by %v, want %v", got, err, f.reprise.outcome)
			}
			var ambiguous *etcdcall.AmbiguousError
			if errors.As(err, &ambiguous) != (f.reprise.outcome == etcdcall.Unknown) {
				t.Errorf("got %T: %v", err, err)
			}
			if err != nil && codeOf(err) != f.raw.code && !f.raw.ok {
				t.Errorf("the code of clientv3, %v, became %v", f.raw.code, codeOf(err))
			}
			if got := applied(t, c); got != f.reprise.applied {
				t.Errorf("applied %d times, want %d", got, f.reprise.applied)
			}
		})
	}
}
