package concurrency

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func TestALockThatPassesQuicklyNeedsNoReadAfterTheRelease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := behind(t, "lock/a", "lock/b")
		w.begin(t.Context(), w.place(2))
		w.goes("lock/a")
		w.still(t)
		time.Sleep(fresh - time.Nanosecond)
		w.taken(t, 1, w.goes("lock/b"))
	})
}

func TestWhoCameBehindTheHolderAlonePutsNoQuestionAfterAQuickRelease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := behind(t, "lock/a")
		w.begin(t.Context(), w.place(1))
		w.taken(t, 0, w.goes("lock/a"))
	})
}

// TestAReleaseThatComesWhileAClaimReadsIsNotMissed has the one before give the lock
// back on the way of the question and on the way of the answer.
func TestAReleaseThatComesWhileAClaimReadsIsNotMissed(t *testing.T) {
	t.Parallel()
	for _, when := range []time.Duration{time.Millisecond, 9 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			w := behind(t, "lock/a", "lock/b")
			w.begin(t.Context(), w.place(2))
			w.goes("lock/a")
			time.Sleep(when)
			rev := w.goes("lock/b")
			time.Sleep(w.latency)
			w.taken(t, 1, rev)
		})
	}
}

// TestAClaimReadsAfterTheReleaseUnlessItKnows has each thing that it has to know
// missing once.
func TestAClaimReadsAfterTheReleaseUnlessItKnows(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(w *waiting, p *place){
		"nobody asked lately":    func(_ *waiting, p *place) { p.asked = time.Now().Add(-fresh) },
		"there may be others":    func(_ *waiting, p *place) { p.known = 0 },
		"both belong to a lease": func(w *waiting, _ *place) { w.claim.term.lease = 0xa },
		"a candidate has to":     func(w *waiting, _ *place) { w.claim.strict = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := behind(t, "lock/a")
				p := w.place(1)
				spoil(w, &p)
				w.begin(t.Context(), p)
				rev := w.goes("lock/a")
				w.still(t)
				time.Sleep(w.latency)
				w.taken(t, 1, rev)
			})
		})
	}
}

func TestAClaimIsNotTheNextWhereSomebodyGaveUpWaiting(t *testing.T) {
	t.Parallel()
	for name, givers := range map[string][]string{
		"the one before":   {"lock/c"},
		"the one beyond":   {"lock/b"},
		"both in turn":     {"lock/b", "lock/c"},
		"both, last first": {"lock/c", "lock/b"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := behind(t, "lock/a", "lock/b", "lock/c")
				p := w.place(2)
				w.begin(t.Context(), p)
				for i, key := range givers {
					w.goes(key)
					time.Sleep(w.latency)
					w.still(t)
					if w.looks != i+1 {
						t.Errorf("%d reads after %d departures", w.looks, i+1)
					}
				}
				rest := []string{"lock/a", "lock/b", "lock/c"}
				rest = slices.DeleteFunc(rest, func(key string) bool { return slices.Contains(givers, key) })
				for i, key := range rest {
					w.still(t)
					rev := w.goes(key)
					if i == len(rest)-1 {
						w.taken(t, w.looks, rev)
					}
					time.Sleep(w.latency)
				}
			})
		})
	}
}

// TestAClaimWithOneBeforeTheOneBeforeItIsNotTheNext has the claim know that these two
// are all, as a reader does.
func TestAClaimWithOneBeforeTheOneBeforeItIsNotTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := behind(t, "lock/a", "lock/b")
		w.begin(t.Context(), w.place(2))
		w.goes("lock/b")
		time.Sleep(w.latency)
		w.still(t)
		w.taken(t, 1, w.goes("lock/a"))
	})
}

func TestAClaimIsNotTheNextWhereYoungerOnesHideTheOlder(t *testing.T) {
	t.Parallel()
	c, keys := &claim{rev: 3, term: newTerm(t.Context(), 1, 7), header: headerAt(nil, 5)}, make([]*mvccpb.KeyValue, 5)
	for i := range keys { // the youngest first
		keys[i] = &mvccpb.KeyValue{Key: []byte("lock/x"), CreateRevision: int64(len(keys) - i)}
	}
	for _, read := range []struct {
		youngest []*mvccpb.KeyValue
		count    int64
		next     bool
	}{
		{keys[1 : 1+1+sight], 5, false}, // a younger one, its own, and the one before
		{keys[2 : 2+1+sight], 3, false}, // its own, and the two before
		{keys[2:4], 3, false},           // its own, and one of the two before
		{keys[2:4], 2, true},
		{keys[3:4], 1, true}, // of a reader
	} {
		p, err := c.among(t.Context(), &pb.RangeResponse{Kvs: read.youngest, Count: read.count}, time.Now())
		if err != nil || p.head() || p.ahead[0] != keys[3] || c.next(&p) != read.next {
			t.Errorf("%d keys from revision %d down: %+v, %v", len(read.youngest), read.youngest[0].CreateRevision, p, err)
		}
	}
}

func TestAClaimWhoseKeyIsGoneIsNotTheNext(t *testing.T) {
	t.Parallel()
	for _, revoked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := behind(t, "lock/a", "lock/b")
			w.revoked = revoked
			w.begin(t.Context(), w.place(2))
			w.goes("lock/a", w.claim.key)
			time.Sleep(w.latency)
			w.missed(t)
		})
	}
}

func TestAClaimThatStopsWaitingLeavesNothingWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := behind(t, "lock/a", "lock/b", "lock/c")
		ctx, giveUp := context.WithCancel(t.Context())
		w.begin(ctx, w.place(2))
		w.goes("lock/c")
		time.Sleep(w.latency)
		w.still(t)
		giveUp()
		if err := <-w.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if n := w.claim.queue.waitedFor(); n != 0 {
			t.Errorf("%d keys are still waited for", n)
		}
	})
}

// TestAClaimThatIsOverIsNotTheNext has the caller give up, or the session end, and the
// one before give the lock back, while the claim reads.
func TestAClaimThatIsOverIsNotTheNext(t *testing.T) {
	t.Parallel()
	for range 30 { // either may be seen first
		for _, session := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := behind(t, "lock/a", "lock/b")
				ctx, giveUp := context.WithCancel(t.Context())
				defer giveUp()
				bound, release := w.claim.term.bound(ctx)
				defer release()
				w.begin(bound, w.place(2))
				w.goes("lock/a")
				time.Sleep(w.latency - time.Nanosecond)
				if session {
					w.claim.term.end(errors.New("over"))
				} else {
					giveUp()
				}
				w.goes("lock/b")
				if err := <-w.ended; !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}
