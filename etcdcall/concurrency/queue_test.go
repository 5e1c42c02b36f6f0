package concurrency

import (
	"context"
	"testing"
	"testing/synctest"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	v3 "go.etcd.io/etcd/client/v3"
)

func TestANameBelongsToOneClaimAtATimeAndIsUsedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionOn(t.Context(), nil, sessionOptions{})
		used := make(map[string]*claim)
		enter := func() *claim {
			t.Helper()
			c := s.claim(s.term, "lock/", "", "")
			if used[c.key] != nil {
				t.Errorf("two claims have the name %s", c.key)
			}
			used[c.key] = c
			return c
		}
		leave := func(c *claim) {
			delete(used, c.key)
			c.vacate()
		}
		stays, goes := enter(), enter()
		for range 3 {
			leave(goes)
			name := goes.key
			if goes = enter(); goes.key != name {
				t.Errorf("%s was free, and another has the name %s", name, goes.key)
			}
			leave(enter())
		}
		if len(s.queues) != 1 {
			t.Errorf("%d queues for one lock", len(s.queues))
		}
		leave(stays)
		leave(goes)
		for _, prefix := range []string{"lock/", "another/", "lock/", "a third/"} {
			c := s.claim(s.term, prefix, "", "")
			if len(s.queues) > 2 {
				t.Errorf("%d queues are kept, and one is stood in", len(s.queues))
			}
			c.vacate()
			if len(s.queues) != 1 || s.queues[prefix] == nil {
				t.Errorf("after %s was left, other queues are kept that nobody stands in: %d", prefix, len(s.queues))
			}
		}
	})
}

// TestANameIsUsedAgainAfterItsLease has a claim give up when its lease is over, lease by
// lease: its key goes with the lease, and cannot be deleted.
func TestANameIsUsedAgainAfterItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionOn(t.Context(), nil, sessionOptions{})
		names := make(map[string]bool)
		for lease := range v3.LeaseID(3) {
			term := newTerm(s.life, 1, lease)
			c := s.claim(term, "lock/", "", "")
			names[c.key] = true
			term.end(context.Canceled)
			c.abandon()
			synctest.Wait()
			if c.queue.slots != 1 || c.queue.refs != 0 {
				t.Errorf("%d names for one claim at a time; %d claims are there after all have gone", c.queue.slots, c.queue.refs)
			}
		}
		if len(names) != 3 {
			t.Errorf("keys of three leases: %v", names)
		}
	})
}

// TestANameTellsTheLeaseAndTheSession: sessions may share a lease, and one session
// has one lease after the other. Keys of the last may still be there.
func TestANameTellsTheLeaseAndTheSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			lease v3.LeaseID
			mark  string
			want  string
		}{
			{0xab, "1", "lock/read/ab-1-1"},
			{0xab, "2", "lock/read/ab-2-1"},
			{0xac, "1", "lock/read/ac-1-1"},
		} {
			s := sessionOn(t.Context(), nil, sessionOptions{})
			s.mark, s.term.lease = test.mark, test.lease
			c := s.claim(s.term, "lock/", "read/", "write/")
			if c.key != test.want || c.rivals != "lock/write/" {
				t.Errorf("the key is %s, and its rivals are under %s; want %s", c.key, c.rivals, test.want)
			}
		}
	})
}

// TestANameOfTheCallersOwnIsNotGivenToOthers has a candidate and lockers under one
// prefix.
func TestANameOfTheCallersOwnIsNotGivenToOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionOn(t.Context(), nil, sessionOptions{})
		used := map[string]bool{s.claim(s.term, "lock/", "", "").key: true}
		own, again := s.claimAs(s.term, "lock/", "lock/7"), s.claimAs(s.term, "lock/", "lock/7")
		if own.key != "lock/7" || own.rivals != "lock/" {
			t.Errorf("the key is %s, and its rivals are under %s", own.key, own.rivals)
		}
		own.vacate()
		again.vacate()
		for range 3 {
			c := s.claim(s.term, "lock/", "", "")
			if used[c.key] {
				t.Errorf("two claims have the name %s", c.key)
			}
			used[c.key] = true
		}
	})
}

// TestANameWhoseKeyMayBeThereIsNotUsedAgain has the store refuse to delete the key of
// a claim that was given up.
func TestANameWhoseKeyMayBeThereIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionOn(t.Context(), nil, sessionOptions{})
		s.client.KV = refusing{}
		for what, rev := range map[string]int64{"created": 5, "perhaps created": 0} {
			c := s.claim(s.term, "lock/", "", "")
			c.rev, c.uncertain = rev, rev == 0
			c.abandon()
			synctest.Wait()
			next := s.claim(s.term, "lock/", "", "")
			if next.key == c.key {
				t.Errorf("%s: %s is used again", what, c.key)
			}
			next.vacate()
		}
	})
}

// refusing is a store that permits nothing.
type refusing struct{ v3.KV }

func (refusing) Get(context.Context, string, ...v3.OpOption) (*v3.GetResponse, error) {
	return nil, rpctypes.ErrPermissionDenied
}

func (refusing) Txn(context.Context) v3.Txn { return refusingTxn{} }

type refusingTxn struct{ v3.Txn }

func (x refusingTxn) If(...v3.Cmp) v3.Txn { return x }

func (x refusingTxn) Then(...v3.Op) v3.Txn { return x }

func (refusingTxn) Commit() (*v3.TxnResponse, error) { return nil, rpctypes.ErrPermissionDenied }
