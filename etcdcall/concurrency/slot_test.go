package concurrency

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	v3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
	"google.golang.org/grpc"
)

// asked is a store where nothing is, that keeps the last transaction.
type asked struct {
	pb.KVClient
	last *pb.TxnRequest
}

// Txn implements pb.KVClient.
func (a *asked) Txn(_ context.Context, req *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	a.last = req
	resp := &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: 5}, Succeeded: true}
	for range req.Success {
		resp.Responses = append(resp.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{
			ResponseDeleteRange: &pb.DeleteRangeResponse{Deleted: 1},
		}})
	}
	return resp, nil
}

// TestANameThatIsUsedAgainAsksForWhatItsClaimIs gives one name to claims of several
// kinds and leases, one after the other and each twice, of which each must ask for its
// own key, lease and rivals.
func TestANameThatIsUsedAgainAsksForWhatItsClaimIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, under := range []string{"", "ns/"} {
			s, store := sessionOn(t.Context(), nil, sessionOptions{}), &asked{}
			s.mark = "1"
			s.client.KV = v3.NewKVFromKVClient(store, s.client)
			if under != "" {
				s.client.KV = namespace.NewKV(s.client.KV, under)
			}
			for _, c := range []struct {
				lease              v3.LeaseID
				kind, rivals, name string
			}{
				{0xab, writeKind, "", "lock/write/ab-1-1"},
				{0xab, readKind, writeKind, "lock/read/ab-1-1"},
				{0xab, readKind, "", "lock/read/ab-1-1"},
				{0xac, readKind, "", "lock/read/ac-1-1"},
				{0xac, "", "", "lock/ac-1-1"},
			} {
				for range 2 {
					term := newTerm(t.Context(), 1, c.lease)
					own := s.claim(term, "lock/", c.kind, c.rivals)
					if own.key != c.name {
						t.Errorf("the key is %s, want %s", own.key, c.name)
					}
					if err := own.tryAcquire(t.Context()); err != nil {
						t.Fatal(err)
					}
					put, guard := store.last.Success[0].GetRequestPut(), store.last.Compare[0]
					rivals := under + "lock/" + c.rivals
					if string(put.GetKey()) != under+c.name || put.GetLease() != int64(c.lease) || len(put.GetValue()) != 0 {
						t.Errorf("%s under %q is created by %v", c.name, under, put)
					}
					if string(guard.Key) != rivals || string(guard.RangeEnd) != v3.GetPrefixRangeEnd(rivals) || guard.GetCreateRevision() != 0 {
						t.Errorf("%s under %q is created if %v", c.name, under, guard)
					}
					if _, err := own.giveBack(t.Context()); err != nil {
						t.Error(err)
					}
					if key := store.last.Success[0].GetRequestDeleteRange().GetKey(); string(key) != under+c.name {
						t.Errorf("%s is deleted instead of %s", key, c.name)
					}
					term.end(nil)
				}
			}
		}
	})
}

// TestAClaimWithAValueOrAKeyOfItsOwnAsksForThose has claims that cannot ask for what
// the others ask for.
func TestAClaimWithAValueOrAKeyOfItsOwnAsksForThose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, store := sessionOn(t.Context(), nil, sessionOptions{}), &asked{}
		s.client.KV = v3.NewKVFromKVClient(store, s.client)
		for _, c := range []*claim{s.claim(s.term, "lock/", "", ""), s.claimAs(s.term, "lock/", "lock/own")} {
			if _, err := c.enter(t.Context(), "value", true); err != nil {
				t.Fatal(err)
			}
			put, guard := store.last.Success[0].GetRequestPut(), store.last.Compare[0]
			if string(put.GetKey()) != c.key || string(put.GetValue()) != "value" || put.GetLease() != 7 || string(guard.Key) != "lock/" {
				t.Errorf("%s is created by %v, if %v", c.key, put, guard)
			}
			if _, err := c.giveBack(t.Context()); err != nil {
				t.Error(err)
			}
			if key := store.last.Success[0].GetRequestDeleteRange().GetKey(); string(key) != c.key {
				t.Errorf("%s is deleted instead of %s", key, c.key)
			}
		}
	})
}

// TestNoMoreThanOneQueueIsKeptThatNobodyStandsIn takes and leaves queues in all
// orders.
func TestNoMoreThanOneQueueIsKeptThatNobodyStandsIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionOn(t.Context(), nil, sessionOptions{})
		prefixes := []string{"a/", "b/", "c/"}
		var held [3][]*claim
		for step := range 3000 {
			i := step * 7 / 5 % 3
			if n := len(held[i]); n > 0 && step*step%11 > 4 || n > 2 {
				held[i][n-1].vacate()
				held[i] = held[i][:n-1]
			} else {
				held[i] = append(held[i], s.claim(s.term, prefixes[i], "", ""))
			}
			idle := 0
			for prefix, q := range s.queues {
				if at := slices.Index(prefixes, prefix); q.refs != len(held[at]) {
					t.Fatalf("step %d: %s counts %d of %d", step, prefix, q.refs, len(held[at]))
				} else if q.refs == 0 {
					idle++
				}
			}
			for at, prefix := range prefixes {
				if len(held[at]) > 0 && (s.queues[prefix] == nil || held[at][0].queue != s.queues[prefix]) {
					t.Fatalf("step %d: the queue of %s is not that of its claims", step, prefix)
				}
			}
			if idle > 1 {
				t.Fatalf("step %d: %d queues are kept that nobody stands in", step, idle)
			}
		}
	})
}

// TestWhoGivesUpHearsOfTheLossBefore gives up a claim that is held, was given up, was
// deleted, or whose term is over.
func TestWhoGivesUpHearsOfTheLossBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			before func(c *claim)
			want   func(err error) bool
		}{
			"held":     {func(*claim) {}, func(err error) bool { return err == nil }},
			"given up": {func(c *claim) { c.give() }, func(err error) bool { return err == ErrLockReleased }}, //nolint:errorlint // the very error
			"deleted":  {func(c *claim) { c.lose(errDeleted) }, isLost},
			"ended":    {func(c *claim) { c.term.end(&SessionError{Reason: SessionClosed}) }, isLost},
		} {
			s := sessionOn(t.Context(), nil, sessionOptions{})
			own := s.claim(s.term, "lock/", "", "")
			c.before(own)
			if err := own.yield(); !c.want(err) {
				t.Errorf("%s: %v (%T)", name, err, err)
			}
			if again := own.yield(); isLost(again) != (name == "deleted" || name == "ended") || again == nil {
				t.Errorf("%s: who gives up twice hears %v", name, again)
			}
			if <-own.context().Done(); own.context().Err() == nil {
				t.Errorf("%s: the claim is not over", name)
			}
			s.end(nil)
		}
	})
}

// TestTheWatchOverAKeyEndsWithItsClaim gives up a claim that was held under a context.
func TestTheWatchOverAKeyEndsWithItsClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, _ := watchesOf(t, &script{watch: stand, reads: []*v3.GetResponse{at(1, 1)}})
		term := newTerm(t.Context(), 1, 7)
		defer term.end(nil)
		own := q.session.claim(term, "lock/", "", "")
		own.rev = 1
		ctx := own.context()
		synctest.Wait()
		if _, resting := q.watched(); resting != 0 || ctx.Err() != nil {
			t.Errorf("while it is held, %d watches rest: %v", resting, ctx.Err())
		}
		own.give()
		if _, resting := q.watched(); resting != 1 || context.Cause(ctx) != ErrLockReleased { //nolint:errorlint // the very error
			t.Errorf("after it was given up, %d watches rest: %v", resting, context.Cause(ctx))
		}
	})
}
