package concurrency_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestReadersShareAndWritersExclude(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	s := session(t, newClient(t, c))
	a, b := concurrency.NewRWMutex(s, "lock"), concurrency.NewRWMutex(session(t, newClient(t, c)), "lock")
	must(t, a.RLock(soon(t)))
	must(t, a.RLock(soon(t)))
	must(t, b.TryRLock(soon(t)))
	if err := b.TryLock(soon(t)); err != concurrency.ErrLocked { //nolint:errorlint // the very error is promised
		t.Errorf("TryLock: %v", err)
	}
	written := lockInBackground(t, b.Lock)
	until(t, "the writer", func() bool { return len(keys(t, c, "lock/write/")) == 1 })
	// A reader does not pass a writer that waits.
	if err := a.TryRLock(soon(t)); err != concurrency.ErrLocked { //nolint:errorlint // the very error is promised
		t.Errorf("TryRLock: %v", err)
	}
	if err := a.RLock(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("RLock: %v", err)
	}
	read := lockInBackground(t, a.RLock)
	for _, m := range []*concurrency.RWMutex{a, b, a} {
		select {
		case err := <-written:
			t.Fatalf("it writes while others read: %v", err)
		default:
		}
		if m.RCtx().Err() != nil {
			t.Error("a reader's context has ended")
		}
		must(t, m.RUnlock(soon(t)))
	}
	must(t, <-written)
	if b.Token() == 0 || b.Ctx().Err() != nil {
		t.Error("the writer does not know that it writes")
	}
	if resp, err := truth(t, c).Txn(soon(t)).If(b.IsOwner()).Commit(); err != nil || !resp.Succeeded {
		t.Errorf("IsOwner: %v", err)
	}
	must(t, b.Unlock(soon(t)))
	must(t, <-read)
	must(t, a.RUnlock(soon(t)))
	if err := a.RUnlock(soon(t)); err != concurrency.ErrLockReleased { //nolint:errorlint // the very error is promised
		t.Errorf("RUnlock: %v", err)
	}
	until(t, "all keys to go", func() bool { return len(keys(t, c, "lock/")) == 0 })
}

func TestReadersAndWritersNeverMeet(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	var (
		wg               sync.WaitGroup
		readers, writers atomic.Int32
	)
	for i := range 6 {
		m := concurrency.NewRWMutex(session(t, newClient(t, c)), "lock")
		read := func() {
			if readers.Add(1); writers.Load() != 0 {
				t.Error("a reader beside a writer")
			}
			readers.Add(-1)
		}
		write := func() {
			if writers.Add(1) != 1 || readers.Load() != 0 {
				t.Errorf("%d writers and %d readers", writers.Load(), readers.Load())
			}
			writers.Add(-1)
		}
		lock, use, unlock := m.RLock, read, m.RUnlock
		if i%3 == 0 {
			lock, use, unlock = m.Lock, write, m.Unlock
		}
		wg.Go(func() {
			for range 20 {
				if err := lock(soon(t)); err != nil {
					t.Error(err)
					return
				}
				use()
				if err := unlock(soon(t)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestABarrierHoldsUntilItIsReleased(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	a, b := concurrency.NewBarrier(newClient(t, c), "barrier"), concurrency.NewBarrier(newClient(t, c), "barrier")
	must(t, b.Wait(soon(t)))
	lose(t, c, etcdtest.MethodTxn, 1)
	must(t, a.Hold(soon(t)))
	must(t, a.Hold(soon(t)))
	if err := b.Hold(soon(t)); err != concurrency.ErrBarrierHeld { //nolint:errorlint // the very error is promised
		t.Errorf("Hold: %v", err)
	}
	if err := b.Wait(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait: %v", err)
	}
	waited := lockInBackground(t, b.Wait)
	_, err := c.Compact(soon(t), 0)
	must(t, err)
	c.Member(0).ClientLink().Reset()
	must(t, a.Release(soon(t)))
	must(t, <-waited)
	must(t, a.Release(soon(t)))
	must(t, b.Hold(soon(t)))
	must(t, a.Release(soon(t))) // whoever raised it

	// A barrier that was raised later is not taken down by the release of one
	// that had gone.
	must(t, a.Hold(soon(t)))
	_, err = truth(t, c).Delete(soon(t), "barrier")
	must(t, err)
	must(t, concurrency.NewBarrier(newClient(t, c), "barrier").Hold(soon(t)))
	must(t, a.Release(soon(t)))
	if got := keys(t, c, "barrier"); len(got) != 1 {
		t.Errorf("somebody else's barrier is gone: %v", got)
	}
}

func TestMembersOfADoubleBarrierBeginAndEndTogether(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	const members, rounds = 4, 5
	var (
		wg           sync.WaitGroup
		inside, left [rounds]atomic.Int32
	)
	for range members {
		b := concurrency.NewDoubleBarrier(session(t, newClient(t, c)), "barrier", members)
		wg.Go(func() {
			for i := range rounds {
				inside[i].Add(1)
				if err := b.Enter(soon(t)); err != nil {
					t.Errorf("Enter: %v", err)
					return
				}
				if n := inside[i].Load(); n != members {
					t.Errorf("round %d began with %d", i, n)
				}
				left[i].Add(1)
				if err := b.Leave(soon(t)); err != nil {
					t.Errorf("Leave: %v", err)
					return
				}
				if n := left[i].Load(); n != members {
					t.Errorf("round %d ended with %d", i, n)
				}
			}
		})
	}
	wg.Wait()

	t.Run("too many", func(t *testing.T) {
		var done []<-chan error
		for range 2 {
			b := concurrency.NewDoubleBarrier(session(t, newClient(t, c)), "small", 2)
			done = append(done, lockInBackground(t, b.Enter))
		}
		for _, d := range done {
			must(t, <-d)
		}
		extra := concurrency.NewDoubleBarrier(session(t, newClient(t, c)), "small", 2)
		if err := extra.Enter(soon(t)); !errors.Is(err, concurrency.ErrTooManyMembers) {
			t.Errorf("Enter: %v", err)
		}
		if err := extra.Leave(soon(t)); err != concurrency.ErrLockReleased { //nolint:errorlint // the very error is promised
			t.Errorf("Leave: %v", err)
		}
	})
	t.Run("a member whose session ends has left", func(t *testing.T) {
		s := session(t, newClient(t, c))
		gone, stays := concurrency.NewDoubleBarrier(s, "pair", 2), concurrency.NewDoubleBarrier(session(t, newClient(t, c)), "pair", 2)
		entered := lockInBackground(t, gone.Enter)
		must(t, stays.Enter(soon(t)))
		must(t, <-entered)
		left := lockInBackground(t, stays.Leave)
		must(t, s.Close())
		must(t, <-left)
	})
}
