package integration_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// onceCluster is one member with a client whose identity is made.
func onceCluster(t *testing.T, opts ...etcdcall.OnceOption) (*etcdtest.Cluster, *clientv3.Client, *clientv3.Client) {
	t.Helper()
	c := etcdtest.New(t)
	cli := newClient(t, c.Config(), etcdcall.WithExactlyOnce(oncePrefix, opts...))
	_, err := cli.Put(t.Context(), "warm", "up")
	must(t, err)
	truth, err := c.Member(0).Truth()
	must(t, err)
	return c, cli, truth
}

func records(t *testing.T, truth *clientv3.Client) *clientv3.GetResponse {
	t.Helper()
	r, err := truth.Get(t.Context(), oncePrefix, clientv3.WithPrefix())
	must(t, err)
	return r
}

func injected(t *testing.T, c *etcdtest.Cluster, f etcdtest.Fault) *etcdtest.Injection {
	t.Helper()
	in, err := c.Inject(f)
	must(t, err)
	t.Cleanup(in.Stop)
	return in
}

var lossOfTxn = etcdtest.Fault{Method: etcdtest.MethodTxn, After: true, Answer: etcdtest.Lose()}

func TestOnceRecordsAreCreatedBeforeUseAndBounded(t *testing.T) {
	t.Parallel()
	_, cli, truth := onceCluster(t, etcdcall.OnceSlots(8))
	before := records(t, truth)
	if len(before.Kvs) != 8 {
		t.Fatalf("%d records, want 8", len(before.Kvs))
	}
	for i := range 100 {
		_, err := cli.Put(t.Context(), fmt.Sprint("k", i), "v")
		must(t, err)
	}
	after := records(t, truth)
	if len(after.Kvs) != 8 {
		t.Errorf("%d records after 100 writes, want 8", len(after.Kvs))
	}
	for _, kv := range after.Kvs {
		if kv.Lease == 0 || len(kv.Value) != 17 || kv.CreateRevision > before.Header.Revision {
			t.Errorf("record %v: no lease, another width or created anew", kv)
		}
	}
}

func TestOnceRecordsVanishWithTheClient(t *testing.T) {
	t.Parallel()
	_, cli, truth := onceCluster(t)
	_, err := cli.Txn(t.Context()).Then(clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("k", "v")}, nil)).Commit()
	must(t, err)
	if err := cli.Close(); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := len(records(t, truth).Kvs); n != 0 {
		t.Errorf("%d records after Close, want none", n)
	}
	leases, err := truth.Leases(t.Context())
	must(t, err)
	if len(leases.Leases) != 0 {
		t.Errorf("leases after Close: %v", leases.Leases)
	}
	if _, err := cli.Put(t.Context(), "k", "v"); etcdcall.OutcomeOf(err) != etcdcall.NotApplied {
		t.Errorf("a write after Close: %v", err)
	}
}

func TestOnceKeepsToItsPrefix(t *testing.T) {
	t.Parallel()
	_, cli, truth := onceCluster(t)
	_, err := cli.Txn(t.Context()).Then(
		clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("a", "1")}, nil),
		clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("b", "1")}, nil)).Commit()
	must(t, err)
	all, err := truth.Get(t.Context(), "", clientv3.WithFromKey())
	must(t, err)
	for _, kv := range all.Kvs {
		if key := string(kv.Key); !strings.HasPrefix(key, oncePrefix) && key != "a" && key != "b" && key != "warm" {
			t.Errorf("key %q outside the prefix", key)
		}
	}
}

func TestOnceRefusesWritesToItsRecords(t *testing.T) {
	t.Parallel()
	_, cli, truth := onceCluster(t)
	before := records(t, truth).Header.Revision
	for name, write := range map[string]func() error{
		"put":                 func() error { _, err := cli.Put(t.Context(), oncePrefix+"x", "v"); return err },
		"delete":              func() error { _, err := cli.Delete(t.Context(), oncePrefix+"x"); return err },
		"delete of all":       func() error { _, err := cli.Delete(t.Context(), "", clientv3.WithFromKey()); return err },
		"delete of the range": func() error { _, err := cli.Delete(t.Context(), "a", clientv3.WithRange("z")); return err },
		"delete in a nested transaction": func() error {
			_, err := cli.Txn(t.Context()).Then(clientv3.OpTxn(nil, nil,
				[]clientv3.Op{clientv3.OpDelete(oncePrefix, clientv3.WithPrefix())})).Commit()
			return err
		},
	} {
		err := write()
		var reserved *etcdcall.ReservedKeyError
		if !errors.As(err, &reserved) || etcdcall.OutcomeOf(err) != etcdcall.NotApplied {
			t.Errorf("%s: got %v, want a ReservedKeyError", name, err)
		}
	}
	if after := records(t, truth).Header.Revision; after != before {
		t.Errorf("the store went from revision %d to %d", before, after)
	}
	_, err := cli.Delete(t.Context(), "p", clientv3.WithRange("z"))
	must(t, err)
}

func TestOnceLostSlotIsAmbiguousThenANewIdentity(t *testing.T) {
	t.Parallel()
	_, cli, truth := onceCluster(t)
	_, err := truth.Delete(t.Context(), oncePrefix, clientv3.WithPrefix())
	must(t, err)
	_, err = cli.Put(t.Context(), "k", "v")
	var ambiguous *etcdcall.AmbiguousError
	if !errors.As(err, &ambiguous) || !errors.Is(err, etcdcall.ErrIdentityLost) {
		t.Fatalf("got %v, want an AmbiguousError for ErrIdentityLost", err)
	}
	if n := len(records(t, truth).Kvs); n != 0 {
		t.Errorf("%d records were created again", n)
	}
	_, err = cli.Put(t.Context(), "k", "w")
	must(t, err)
	if len(records(t, truth).Kvs) == 0 {
		t.Error("no new identity")
	}
}

// The loss of the identity in the middle of a call: the first attempt was
// applied, its response lost, and the lease revoked before the second.
func TestOnceAppliedBeforeItsIdentityWasLostIsAmbiguous(t *testing.T) {
	t.Parallel()
	c, cli, truth := onceCluster(t)
	lease := clientv3.LeaseID(records(t, truth).Kvs[0].Lease)
	in := injected(t, c, etcdtest.Fault{Method: etcdtest.MethodTxn, After: true, Answer: etcdtest.Hang()})
	got := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := cli.Put(ctx, "k", "v")
		got <- err
	}()
	must(t, in.Wait(soon(t)))
	_, err := truth.Revoke(t.Context(), lease)
	must(t, err)
	c.Member(0).ClientLink().Reset()
	if err := <-got; !errors.Is(err, etcdcall.ErrIdentityLost) || etcdcall.OutcomeOf(err) != etcdcall.Unknown {
		t.Errorf("got %v, want ErrIdentityLost of unknown outcome", err)
	}
}

func TestOnceUsersMissingLeaseIsToldApart(t *testing.T) {
	t.Parallel()
	_, cli, truth := onceCluster(t)
	before := records(t, truth)
	_, err := cli.Put(t.Context(), "k", "v", clientv3.WithLease(12345))
	if !errors.Is(err, rpctypes.ErrLeaseNotFound) || etcdcall.OutcomeOf(err) != etcdcall.NotApplied || errors.Is(err, etcdcall.ErrIdentityLost) {
		t.Errorf("got %v, want the user's LeaseNotFound, not applied", err)
	}
	_, err = cli.Put(t.Context(), "k", "v")
	must(t, err)
	if after := records(t, truth); after.Kvs[0].Lease != before.Kvs[0].Lease {
		t.Error("the identity was given up for the user's missing lease")
	}
}

// A refused write is sealed: granting the lease afterwards does not let a copy
// of the request through that was delayed.
func TestOnceRefusedWriteStaysRefused(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	late := &replayer{}
	cfg := c.Config()
	cfg.DialOptions = append(cfg.DialOptions, late.option())
	cli := newClient(t, cfg, etcdcall.WithExactlyOnce(oncePrefix))
	_, err := cli.Put(t.Context(), "k", "v", clientv3.WithLease(12345))
	if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Fatal(err)
	}
	truth, err := c.Member(0).Truth()
	must(t, err)
	_, err = clientv3.RetryLeaseClient(cli).LeaseGrant(t.Context(), leaseOf(12345))
	must(t, err)
	late.replayAll(t)
	r, err := truth.Get(t.Context(), "k")
	must(t, err)
	if len(r.Kvs) != 0 {
		t.Errorf("a write reported as not applied was applied: %v", r.Kvs)
	}
}

func TestOnceSizeLimitsAreSaid(t *testing.T) {
	t.Parallel()
	_, cli, _ := onceCluster(t)
	puts := func(n int) []clientv3.Op {
		ops := make([]clientv3.Op, n)
		for i := range ops {
			ops[i] = clientv3.OpPut(fmt.Sprint("k", i), "v")
		}
		return ops
	}
	is := clientv3.Compare(clientv3.CreateRevision("none"), "=", 0)
	for _, tc := range []struct {
		cmps []clientv3.Cmp
		ops  int
		fits bool
	}{{nil, 127, true}, {nil, 128, false}, {[]clientv3.Cmp{is}, 126, true}, {[]clientv3.Cmp{is}, 127, false}} {
		_, err := cli.Txn(t.Context()).If(tc.cmps...).Then(puts(tc.ops)...).Commit()
		var size *etcdcall.TxnSizeError
		switch {
		case tc.fits && err != nil:
			t.Errorf("%d operations, %d comparisons: %v", tc.ops, len(tc.cmps), err)
		case !tc.fits && (!errors.As(err, &size) || !errors.Is(err, rpctypes.ErrTooManyOps) || size.Operations != tc.ops):
			t.Errorf("%d operations, %d comparisons: got %v, want a TxnSizeError", tc.ops, len(tc.cmps), err)
		}
	}
}

// Each write carries a record, so without space deletes are refused as well, but
// for those that are not to be made exactly once.
func TestOnceWithoutSpaceNothingIsApplied(t *testing.T) {
	t.Parallel()
	_, cli, _ := onceCluster(t, etcdcall.OnceSlots(1))
	alarm := func(action etcdserverpb.AlarmRequest_AlarmAction) {
		t.Helper()
		_, err := etcdserverpb.NewMaintenanceClient(cli.ActiveConnection()).Alarm(t.Context(),
			&etcdserverpb.AlarmRequest{Action: action, Alarm: etcdserverpb.AlarmType_NOSPACE})
		must(t, err)
	}
	_, err := cli.Put(t.Context(), "k", "v")
	must(t, err)
	alarm(etcdserverpb.AlarmRequest_ACTIVATE)
	for name, write := range map[string]func() error{
		"put":    func() error { _, err := cli.Put(soon(t), "k", "w"); return err },
		"delete": func() error { _, err := cli.Delete(soon(t), "k"); return err },
	} {
		if err := write(); !errors.Is(err, rpctypes.ErrNoSpace) || etcdcall.OutcomeOf(err) != etcdcall.NotApplied {
			t.Errorf("%s: got %v (%v), want NoSpace, not applied", name, err, etcdcall.OutcomeOf(err))
		}
	}
	deleted, err := cli.Delete(etcdcall.ExactlyOnce(t.Context(), false), "k")
	must(t, err)
	if deleted.Deleted != 1 {
		t.Errorf("the plain delete deleted %d keys, want the one of before", deleted.Deleted)
	}
	alarm(etcdserverpb.AlarmRequest_DEACTIVATE)
	_, err = cli.Put(soon(t), "k", "w")
	must(t, err)
}

// The state before the write is needed for the previous value, and is gone.
func TestOnceCompactedHistorySaysWhereItWasApplied(t *testing.T) {
	t.Parallel()
	c, cli, truth := onceCluster(t)
	in := injected(t, c, etcdtest.Fault{Method: etcdtest.MethodTxn, After: true, Answer: etcdtest.Hang()})
	got := make(chan error, 1)
	go func() {
		_, err := cli.Put(soon(t), "k", "v", clientv3.WithPrevKV())
		got <- err
	}()
	must(t, in.Wait(soon(t)))
	later, err := truth.Put(t.Context(), "other", "v")
	must(t, err)
	_, err = c.Compact(t.Context(), later.Header.Revision)
	must(t, err)
	c.Member(0).ClientLink().Reset()

	err = <-got
	var lost *etcdcall.ResponseLostError
	if !errors.As(err, &lost) || !errors.Is(err, rpctypes.ErrCompacted) || etcdcall.OutcomeOf(err) != etcdcall.Applied {
		t.Fatalf("got %v, want a ResponseLostError because of compaction", err)
	}
	r, err := truth.Get(t.Context(), "k")
	must(t, err)
	if len(r.Kvs) != 1 || r.Kvs[0].ModRevision != lost.Revision {
		t.Errorf("the error says revision %d, the store %v", lost.Revision, r.Kvs)
	}
}
