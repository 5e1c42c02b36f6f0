package etcdcall

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// lostBy waits until k has lost its lease, and returns how.
func lostBy(t *testing.T, k *LeaseKeeper) LeaseReason {
	t.Helper()
	<-k.Done()
	lost, ok := errors.AsType[*LeaseError](k.Err())
	if !ok || lost.ID != k.ID() {
		t.Fatalf("lease %d ended with %v", k.ID(), k.Err())
	}
	return lost.Reason
}

// TestOnlyARevocationThatFoundTheLeaseEndsItAsRevoked: the keeper has no news but
// what Revoke brings before its lease expires.
func TestOnlyARevocationThatFoundTheLeaseEndsItAsRevoked(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer error
		want   LeaseReason
		after  time.Duration
	}{
		"it was there":       {nil, LeaseRevoked, 300 * time.Millisecond},
		"it was not there":   {rpctypes.ErrLeaseNotFound, LeaseGone, 300 * time.Millisecond},
		"it was refused":     {rpctypes.ErrPermissionDenied, LeaseExpired, 19 * time.Second},
		"nobody knows of it": {&AmbiguousError{Err: context.DeadlineExceeded}, LeaseExpired, 19 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := slowLeaseOn(t, never)
			l.calls.(*slowLease).revoke = test.answer
			began := time.Now()
			k, err := KeepLease(t.Context(), l, 7, GrantedAt(began, 20*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.Revoke(t.Context(), 7); !errors.Is(err, test.answer) {
				t.Errorf("%s: Revoke returned %v", name, err)
			}
			if reason := lostBy(t, k); reason != test.want || time.Since(began) != test.after {
				t.Errorf("%s: the keeper ended after %v because it is %v, want %v after %v", name, time.Since(began), reason, test.want, test.after)
			}
		})
	}
}

// TestALossIsTheRevocationsWhileOneIsUnderWay, and only if the server says that
// the lease is gone.
func TestALossIsTheRevocationsWhileOneIsUnderWay(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ttl              int64
		answered, silent bool
		again            bool // another was under way, and ended
		want             LeaseReason
	}{
		"gone while it is under way":           {want: LeaseRevoked},
		"gone after another failed":            {again: true, want: LeaseRevoked},
		"gone after it failed":                 {answered: true, want: LeaseGone},
		"gone as a negative time tells":        {ttl: -1, answered: true, want: LeaseGone},
		"gone after it and another one failed": {again: true, answered: true, want: LeaseGone},
		"expired while it is under way":        {silent: true, want: LeaseExpired},
	} {
		synctest.Test(t, func(t *testing.T) {
			// The answer to the first renewal says that the lease is gone.
			s := &renewalServer{ttl: test.ttl, answer: func(int) (time.Duration, bool) { return time.Second, !test.silent }}
			k := keepOn(t, s, time.Hour, grantedNow(20*time.Second))
			answered := k.mux.revoke(7)
			if test.again {
				k.mux.revoke(7)()
			}
			if test.answered {
				answered()
				answered = func() {}
			}
			if reason := lostBy(t, k); reason != test.want {
				t.Errorf("%s: it ended because it is %v, want %v", name, reason, test.want)
			}
			answered()
			if n := len(k.mux.revoking); n > 0 {
				t.Errorf("%s: %d revocations are remembered", name, n)
			}
		})
	}
}

// TestWhatIsKnownOfALeaseEndsWithIt: a keeper that begins later knows nothing.
func TestWhatIsKnownOfALeaseEndsWithIt(t *testing.T) {
	t.Parallel()
	var gone atomic.Bool
	for name, end := range map[string]func(*lease, *LeaseKeeper){
		"its time is over":           func(_ *lease, k *LeaseKeeper) { <-k.Done() },
		"it was revoked":             func(l *lease, _ *LeaseKeeper) { _, _ = l.Revoke(context.Background(), 7) },
		"a renewal found it is gone": func(_ *lease, k *LeaseKeeper) { gone.Store(true); <-k.Done() },
	} {
		synctest.Test(t, func(t *testing.T) {
			l := slowLeaseOn(t, func(int) (time.Duration, bool) { return time.Millisecond, gone.Load() })
			if _, err := l.Grant(t.Context(), 20); err != nil {
				t.Fatal(err)
			}
			keep := func() *LeaseKeeper {
				k, err := KeepLease(t.Context(), l, 7)
				if err != nil {
					t.Fatal(err)
				}
				return k
			}
			k := keep()
			end(l, k)
			k.Stop()
			gone.Store(false)
			k = keep()
			if !k.Until().IsZero() || k.TTL() != 0 {
				t.Errorf("%s: a new keeper believes in it for %v", name, time.Until(k.Until()))
			}
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			if err := k.Err(); err != nil {
				t.Errorf("%s: a new keeper was not given the time to ask: %v", name, err)
			}
		})
	}
}

func TestAKeeperOutlivesATimerThatFiredTooEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := keepOn(t, &renewalServer{answer: never}, time.Hour, grantedNow(10*time.Second))
		time.Sleep(5 * time.Second)
		k.mux.expire(k.lease)
		if err := k.Err(); err != nil {
			t.Errorf("it ended with %v", err)
		}
		if reason := lostBy(t, k); reason != LeaseExpired || !time.Now().Equal(k.Until()) {
			t.Errorf("it ended because it is %v, %v from the time it was held until", reason, time.Since(k.Until()))
		}
	})
}

// TestALongLeaseIsAskedForAgainAfterTheSilence: a third of its time would be 200
// seconds.
func TestALongLeaseIsAskedForAgainAfterTheSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 600, answer: func(n int) (time.Duration, bool) { return time.Millisecond, n != 2 }}
		k := keepOn(t, s, time.Minute)
		time.Sleep(65 * time.Second)
		synctest.Wait()
		if s.opened != 2 || len(s.sent) != 3 || k.Err() != nil {
			t.Fatalf("%d renewals on %d streams, %v; want 3 on 2", len(s.sent), s.opened, k.Err())
		}
		if got := s.sent[2].Sub(s.sent[1]); got < 4*time.Second || got > 4100*time.Millisecond {
			t.Errorf("made again after %v, want 4s and a pause", got)
		}
	})
}

func TestKeepersOfOneLeaseEndEachByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 3, answer: func(int) (time.Duration, bool) { return time.Millisecond, true }}
		first := keepOn(t, s, time.Hour)
		second, err := first.mux.keep(t.Context(), 7, keepSettings{}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		first.Stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := second.Err(); err != nil || !second.Until().After(time.Now()) {
			t.Errorf("the second ended with the first: %v", err)
		}
		second.Stop()
		second.Stop()
		synctest.Wait()
		sent := len(s.sent)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !errors.Is(second.Err(), ErrStopped) || len(s.sent) != sent || s.opened != 1 {
			t.Errorf("it ended with %v; %d renewals came after", second.Err(), len(s.sent)-sent)
		}
	})
}

// TestARefusedStreamRefusesAllLeases: the server tells of none.
func TestARefusedStreamRefusesAllLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 60, answer: func(int) (time.Duration, bool) { return time.Millisecond, true }}
		refuse := true
		s.open = func(context.Context) error {
			if refuse {
				return rpctypes.ErrGRPCPermissionDenied
			}
			return nil
		}
		first := keepOn(t, s, time.Hour)
		second, err := first.mux.keep(t.Context(), 8, keepSettings{}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []*LeaseKeeper{first, second} {
			if reason := lostBy(t, k); reason != LeaseRefused || !errors.Is(k.Err(), rpctypes.ErrPermissionDenied) {
				t.Errorf("lease %d ended because of %v: %v", k.ID(), reason, k.Err())
			}
		}
		refuse = false
		later, err := first.mux.keep(t.Context(), 8, keepSettings{}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if later.Err() != nil || later.Until().IsZero() {
			t.Errorf("asked for again: %v, held until %v", later.Err(), later.Until())
		}
	})
}

func TestAKeeperThatCannotBeginSaysWhy(t *testing.T) {
	t.Parallel()
	l := slowLeaseOn(t, never)
	why := errors.New("the reason")
	over, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := KeepLease(over, l, 7); !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
		t.Errorf("its context has ended: got %v", err)
	}
	// clientv3 gives no error either.
	channel, err := l.KeepAlive(over, 7)
	if _, open := <-channel; open || err != nil {
		t.Errorf("by the channel: open %v, %v", open, err)
	}
	l.mux.close()
	if _, err := KeepLease(t.Context(), l, 7); !errors.Is(err, ErrClosed) {
		t.Errorf("the client is closed: got %v", err)
	}
	channel, err = l.KeepAlive(t.Context(), 7)
	halted, ok := errors.AsType[clientv3.ErrKeepAliveHalted](err)
	if _, open := <-channel; open || !ok || !errors.Is(halted.Reason, ErrClosed) {
		t.Errorf("by the channel: open %v, %v", open, err)
	}
	for name, foreign := range map[string]clientv3.Lease{
		"none": nil, "clientv3's": clientv3.NewLeaseFromLeaseClient(nil, nil, 0), "no client": (*clientv3.Client)(nil), "no lease": (*lease)(nil),
	} {
		if _, err := KeepLease(t.Context(), foreign, 7); !isConfigurationError(err) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func isConfigurationError(err error) bool {
	_, ok := errors.AsType[*ConfigurationError](err)
	return ok
}
