package concurrency_test

import (
	"context"
	"errors"
	"testing"
	"time"

	raw "go.etcd.io/etcd/client/v3/concurrency"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestUnlockDeletesNoKeyButItsOwn(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	replace := func(t *testing.T, key string) {
		_, err := truth(t, c).Delete(soon(t), key)
		must(t, err)
		_, err = truth(t, c).Put(soon(t), key, "somebody else's")
		must(t, err)
	}
	t.Run("in clientv3 it does", func(t *testing.T) {
		s, err := raw.NewSession(c.Client(t))
		must(t, err)
		defer s.Close()
		m := raw.NewMutex(s, "raw")
		must(t, m.Lock(soon(t)))
		replace(t, m.Key())
		must(t, m.Unlock(soon(t)))
		if len(keys(t, c, "raw/")) != 0 {
			t.Error("clientv3 has mended it")
		}
	})
	m := concurrency.NewMutex(session(t, newClient(t, c)), "lock")
	must(t, m.Lock(soon(t)))
	replace(t, m.Key())
	var lost *concurrency.LostError
	if err := m.Unlock(soon(t)); !errors.As(err, &lost) {
		t.Errorf("Unlock: %v", err)
	}
	if len(keys(t, c, "lock/")) != 1 {
		t.Error("it deleted somebody else's key")
	}
}

func TestUnlockTellsThatTheKeyWasGone(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	m := concurrency.NewMutex(session(t, newClient(t, c)), "lock")
	must(t, m.Lock(soon(t)))
	key, token := m.Key(), m.Token()
	_, err := truth(t, c).Delete(soon(t), key)
	must(t, err)
	var lost *concurrency.LostError
	if err := m.Unlock(soon(t)); !errors.As(err, &lost) || lost.Key != key || lost.Rev != token {
		t.Errorf("Unlock: %v", err)
	}
	if err := m.Unlock(soon(t)); err != concurrency.ErrLockReleased { //nolint:errorlint // the very error is promised
		t.Errorf("second Unlock: %v", err)
	}
}

func TestAnUnlockThatFailsGoesOnInTheBackground(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	m := concurrency.NewMutex(session(t, newClient(t, c)), "lock")
	must(t, m.Lock(soon(t)))
	must(t, c.Member(0).ClientLink().BlackHole(etcdtest.Both))
	if err := m.Unlock(within(t, 100*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Unlock: %v", err)
	}
	if m.Token() != 0 || m.Ctx().Err() == nil {
		t.Error("the lock is still held")
	}
	// To unlock again is to wait for it.
	if err := m.Unlock(within(t, 100*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Unlock again: %v", err)
	}
	must(t, c.Member(0).ClientLink().Heal())
	must(t, m.Unlock(soon(t)))
	if left := keys(t, c, "lock/"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := m.Unlock(soon(t)); err != concurrency.ErrLockReleased { //nolint:errorlint // the very error is promised
		t.Errorf("third Unlock: %v", err)
	}
}

func TestTheContextOfALockEndsWithItsUnlocking(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	m := concurrency.NewMutex(session(t, newClient(t, c)), "lock")
	must(t, m.Lock(soon(t)))
	held := m.Ctx()
	must(t, m.Unlock(soon(t)))
	if err := waitEnd(t, held, "the context"); err != concurrency.ErrLockReleased { //nolint:errorlint // the very error is promised
		t.Errorf("cause: %v", err)
	}
	must(t, m.Lock(soon(t)))
	if m.Ctx().Err() != nil {
		t.Error("the context of the next holding has ended")
	}
	must(t, m.Unlock(soon(t)))
}

func TestUnlockAfterTheSessionHasEndedTellsOfTheLoss(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	s := session(t, newClient(t, c))
	m := concurrency.NewMutex(s, "lock")
	must(t, m.Lock(soon(t)))
	key, token := m.Key(), m.Token()
	s.Orphan()
	var lost *concurrency.LostError
	err := m.Unlock(soon(t))
	if !errors.As(err, &lost) || lost.Key != key || lost.Rev != token || !errors.Is(err, concurrency.ErrSessionExpired) {
		t.Errorf("Unlock: %v", err)
	}
}

func TestNobodyOwnsALockThatIsNotHeld(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	m := concurrency.NewMutex(session(t, newClient(t, c)), "lock")
	owned := func() bool {
		resp, err := truth(t, c).Txn(soon(t)).If(m.IsOwner()).Commit()
		must(t, err)
		return resp.Succeeded
	}
	before := owned()
	must(t, m.Lock(soon(t)))
	held, was := owned(), m.IsOwner()
	must(t, m.Unlock(soon(t)))
	after := owned()
	if before || !held || after {
		t.Errorf("owned before %v, while it was held %v, afterwards %v", before, held, after)
	}
	if resp, err := truth(t, c).Txn(soon(t)).If(was).Commit(); err != nil || resp.Succeeded {
		t.Errorf("a past holder owns it: %v", err)
	}
}
