package etcdcall

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/reprise-go/reprise/etcdcall/internal/keyrange"
)

func TestTheLeaseIsRenewedThreeTimesInItsTime(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		if _, err := put(t.Context(), w, "k"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		time.Sleep(5 * time.Minute)
		renewals := s.requests(pb.Lease_LeaseKeepAlive_FullMethodName)
		for i, r := range renewals {
			if at := r.at.Sub(began); at != time.Duration(i+1)*20*time.Second {
				t.Errorf("renewal %d after %v", i+1, at)
			}
		}
		if len(renewals) < 14 {
			t.Errorf("%d renewals in five minutes", len(renewals))
		}
		if _, err := put(t.Context(), w, "k"); err != nil || len(s.requests(pb.Lease_LeaseGrant_FullMethodName)) != 1 {
			t.Errorf("the identity did not last: %v", err)
		}
	})
}

// cutOff keeps everything from the server from now on, until mended.
func cutOff(s *store) (mend func()) {
	s.setFault(func(_ request, after bool) error {
		if after {
			return nil
		}
		return errBroken
	})
	return func() { s.setFault(nil) }
}

func TestNothingIsSentOnceTheLeaseCanHaveExpired(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		// The answer to the grant takes 3 s: the server's clock for the
		// lease has run all that time.
		sent := time.Now()
		slow := true
		s.setFault(func(r request, after bool) error {
			if r.method == pb.Lease_LeaseGrant_FullMethodName && after && slow {
				slow = false
				time.Sleep(3 * time.Second)
			}
			return nil
		})
		if _, err := put(t.Context(), w, "warm"); err != nil {
			t.Fatal(err)
		}
		mend := cutOff(s)
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 58*time.Second)
			defer cancel()
			_, err := put(ctx, w, "k")
			done <- err
		}()
		err := <-done
		for _, r := range s.requests(pb.KV_Txn_FullMethodName) {
			if after := r.at.Sub(sent); after >= 54*time.Second {
				t.Fatalf("an attempt was sent %v after the grant of 60 s", after)
			}
		}
		if !errors.Is(err, context.DeadlineExceeded) || OutcomeOf(err) != Unknown {
			t.Errorf("got %v", err)
		}
		mend()
	})
}

func TestAWriteWaitsForARenewalAndGoesOn(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		if _, err := put(t.Context(), w, "warm"); err != nil {
			t.Fatal(err)
		}
		mend := cutOff(s)
		time.Sleep(57 * time.Second) // stale, and not yet expired
		done := make(chan error, 1)
		go func() {
			_, err := put(t.Context(), w, "k")
			done <- err
		}()
		time.Sleep(time.Second)
		mend()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n := len(s.requests(pb.Lease_LeaseGrant_FullMethodName)); n != 1 {
			t.Errorf("%d leases granted, want one", n)
		}
	})
}

func TestAWriteThatWasNeverSentMovesToANewIdentity(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		if _, err := put(t.Context(), w, "warm"); err != nil {
			t.Fatal(err)
		}
		mend := cutOff(s)
		time.Sleep(70 * time.Second)
		done := make(chan error, 1)
		go func() {
			_, err := put(t.Context(), w, "k")
			done <- err
		}()
		time.Sleep(time.Second)
		mend()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if s.get("k").GetVersion() != 1 {
			t.Errorf("the store has %v", s.get("k"))
		}
	})
}

func TestAWriteThatMayHaveBeenAppliedDoesNotMove(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		s.setFault(losing("k", 1))
		if _, err := put(t.Context(), w, "warm"); err != nil {
			t.Fatal(err)
		}
		lost := false
		s.setFault(func(r request, after bool) error {
			if lost = lost || after && isWriteOf(r, "k"); lost {
				return errBroken
			}
			return nil
		})
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			_, err := put(ctx, w, "k")
			done <- err
		}()
		time.Sleep(70 * time.Second)
		s.setFault(nil)
		if err := <-done; !errors.Is(err, ErrIdentityLost) || OutcomeOf(err) != Unknown {
			t.Errorf("got %v, want ErrIdentityLost of unknown outcome", err)
		}
		if s.get("k").GetVersion() != 1 {
			t.Errorf("the store has %v", s.get("k"))
		}
	})
}

func TestTheServerChoosesEveryLease(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		failures := 2
		s.setFault(func(r request, after bool) error {
			if r.method == pb.Lease_LeaseGrant_FullMethodName && after && failures > 0 {
				failures--
				return errBroken
			}
			return nil
		})
		for range 2 {
			if _, err := put(t.Context(), w, "k"); err != nil {
				t.Fatal(err)
			}
			w.current.Load().lose()
		}
		grants := s.requests(pb.Lease_LeaseGrant_FullMethodName)
		for _, r := range grants {
			if id := r.msg.(*pb.LeaseGrantRequest).GetID(); id != 0 {
				t.Errorf("the client asked for lease %d", id)
			}
		}
		if len(grants) != 4 {
			t.Errorf("%d grants, want four", len(grants))
		}
	})
}

func TestNamesOfSlotsAreNeverUsedTwice(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		failures := 2
		s.setFault(func(r request, _ bool) error {
			if txn, ok := r.msg.(*pb.TxnRequest); ok && len(txn.GetSuccess()) > 2 && failures > 0 {
				failures--
				return errBroken
			}
			return nil
		})
		if _, err := put(t.Context(), w, "k"); err != nil {
			t.Fatal(err)
		}
		named := map[string]bool{}
		for _, r := range s.requests(pb.KV_Txn_FullMethodName) {
			ops := r.msg.(*pb.TxnRequest).GetSuccess()
			if len(ops) <= 2 {
				continue
			}
			for _, op := range ops {
				key := string(op.GetRequestPut().GetKey())
				if named[key] {
					t.Fatalf("%s was named twice", key)
				}
				named[key] = true
			}
		}
		if len(named) != 3*firstSlots {
			t.Errorf("%d names, want %d", len(named), 3*firstSlots)
		}
	})
}

func TestTheCreationOfSlotsIsGuardedHoweverManyNamesWereUsed(t *testing.T) {
	t.Parallel()
	id := &identity{prefix: "once/1/"}
	batch := &slotBatch{id: id, count: firstSlots}
	for id.named < 1<<17 {
		req := batch.request()
		guard := req.GetCompare()[0]
		for _, op := range req.GetSuccess() {
			if key := op.GetRequestPut().GetKey(); !keyrange.Contains(guard.GetKey(), guard.GetRangeEnd(), key) {
				t.Fatalf("%s is not in the range %s to %s that must be empty", key, guard.GetKey(), guard.GetRangeEnd())
			}
		}
	}
}

func TestNoMoreNamesAreUsedThanTwiceTheSlots(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		if _, err := put(t.Context(), w, "k"); err != nil {
			t.Fatal(err)
		}
		id := w.current.Load()
		id.named = 2*100 - 1
		for range 2 {
			if err := id.grow(t.Context(), firstSlots); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(id.slots); id.named != 2*100 || n != firstSlots+1 {
			t.Errorf("%d names and %d slots, want 200 and one slot more", id.named, n)
		}
	}, OnceSlots(100))
}

func TestANewIdentityServesAtOnceHoweverOldTheClient(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		for range 2 {
			began := time.Now()
			if _, err := put(t.Context(), w, "k"); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("took %v", took)
			}
			time.Sleep(time.Hour)
			w.current.Load().lose()
		}
	})
}

func TestSlotsGrowWithDemandUpToTheirNumber(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		s.delay = time.Second
		errs := make(chan error)
		began := time.Now()
		const writes = 200
		for i := range writes {
			go func() {
				_, err := put(t.Context(), w, fmt.Sprint("k", i))
				errs <- err
			}()
		}
		for range writes {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		// 100 at a time at most, and some time to get there.
		if took := time.Since(began); took < 2*time.Second || took > 6*time.Second {
			t.Errorf("%d writes of a second took %v", writes, took)
		}
		if n := len(w.current.Load().slots); n != 100 {
			t.Errorf("%d slots, want 100", n)
		}
	}, OnceSlots(100))
}

func TestClosingRevokesTheLeaseOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		if _, err := put(t.Context(), w, "k"); err != nil {
			t.Fatal(err)
		}
		w.close()
		w.close()
		if n := len(s.requests(pb.Lease_LeaseRevoke_FullMethodName)); n != 1 {
			t.Errorf("revoked %d times", n)
		}
		if _, err := put(t.Context(), w, "k"); !errors.Is(err, errOnceClosed) || OutcomeOf(err) != NotApplied {
			t.Errorf("a write after close: %v", err)
		}
	})
}

func TestClosingIsNotHeldUpByADeadCluster(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		if _, err := put(t.Context(), w, "k"); err != nil {
			t.Fatal(err)
		}
		cutOff(s)
		began := time.Now()
		w.close()
		if took := time.Since(began); took > revokeTimeout {
			t.Errorf("closing took %v", took)
		}
	})
}

func TestAnIdentityThatCannotBeMadeLeavesNoLease(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		s.setFault(func(r request, _ bool) error {
			if r.method == pb.KV_Txn_FullMethodName {
				return rpctypes.ErrGRPCPermissionDenied
			}
			return nil
		})
		for n := range 5 {
			if _, err := put(t.Context(), w, "k"); !errors.Is(err, rpctypes.ErrPermissionDenied) || OutcomeOf(err) != NotApplied {
				t.Errorf("got %v (%v)", err, OutcomeOf(err))
			}
			synctest.Wait()
			if granted := len(s.requests(pb.Lease_LeaseGrant_FullMethodName)); granted != n+1 || len(s.leases) != 0 {
				t.Errorf("%d leases of %d are left", len(s.leases), granted)
			}
		}
	})
}

func TestAFailureToMakeAnIdentityIsNotApplied(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		cutOff(s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := put(ctx, w, "k"); !errors.Is(err, context.DeadlineExceeded) || OutcomeOf(err) != NotApplied {
			t.Errorf("got %v (%v)", err, OutcomeOf(err))
		}
		if _, err := put(t.Context(), w, "k"); err == nil || OutcomeOf(err) != NotApplied {
			t.Errorf("without a deadline: got %v (%v)", err, OutcomeOf(err))
		}
	})
}
