package concurrency

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	v3 "go.etcd.io/etcd/client/v3"
)

// hearing is a claim that hears of its queue. Its key is created at revision 10.
type hearing struct {
	*claim
	watch *queueWatch
}

const (
	keyMe = "lock/write/me"
	keyA  = "lock/write/a"
	keyB  = "lock/write/b"
)

// key is a key with its create revision.
func key(name string, rev int64) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: []byte(name), CreateRevision: rev}
}

// finds has the watch begin, or begin anew, and find keys at a revision.
func finds(rev int64, kvs ...*mvccpb.KeyValue) func(*hearing) {
	return func(h *hearing) { h.watch.restarted(&v3.GetResponse{Header: headerAt(nil, rev), Kvs: kvs}) }
}

// tells has the watch tell of deletions at one revision.
func tells(rev int64, names ...string) func(*hearing) {
	batch := new(v3.WatchResponse)
	for _, name := range names {
		batch.Events = append(batch.Events, &v3.Event{Kv: &mvccpb.KeyValue{Key: []byte(name), ModRevision: rev}})
	}
	return func(h *hearing) { h.watch.moved(batch) }
}

// answered answers the request of the claim.
func answered(h *hearing) {
	h.queue.join(h.claim, &place{ahead: []*mvccpb.KeyValue{key(keyB, 3), key(keyA, 2)}, known: 10})
}

// heard is what a claim hears, in order.
type heard []func(*hearing)

func listening(t *testing.T) *hearing {
	t.Helper()
	s := sessionOn(t.Context(), nil, sessionOptions{})
	s.client.Watcher = mute{}
	h := &hearing{claim: s.claimAs(s.term, "lock/", keyMe)}
	h.rev = 10
	h.queue.mu.Lock()
	h.watch = h.queue.newQueueWatch()
	h.queue.mu.Unlock()
	t.Cleanup(func() { s.end(nil) })
	return h
}

// mute is a store whose watches do not begin.
type mute struct{ v3.Watcher }

func (mute) Watch(ctx context.Context, _ string, _ ...v3.OpOption) v3.WatchChan {
	events := make(chan v3.WatchResponse)
	context.AfterFunc(ctx, func() { close(events) })
	return events
}

// TestATurnComesWhenAllBeforeAreGone says what a claim hears of its queue, in order, and
// when its turn comes: at which revision, 0 if it does not, -1 if the claim is lost.
func TestATurnComesWhenAllBeforeAreGone(t *testing.T) {
	t.Parallel()
	all := []*mvccpb.KeyValue{key(keyA, 2), key(keyB, 3)}
	and := func(kvs ...*mvccpb.KeyValue) []*mvccpb.KeyValue { return append(kvs, all...) }
	for name, test := range map[string]struct {
		heard heard
		turn  int64
	}{
		"nobody goes":                           {heard{finds(5, all...), answered}, 0},
		"one goes":                              {heard{finds(5, all...), answered, tells(11, keyB)}, 0},
		"both go":                               {heard{finds(5, all...), answered, tells(11, keyA), tells(12, keyB)}, 12},
		"both go, last first":                   {heard{finds(5, all...), answered, tells(11, keyB), tells(14, keyA)}, 14},
		"both at once":                          {heard{finds(5, all...), answered, tells(11, keyA, keyB)}, 11},
		"others go":                             {heard{finds(5, all...), answered, tells(11, "lock/write/c"), tells(12, "lock/read/a")}, 0},
		"they go before the answer comes":       {heard{finds(5, all...), tells(11, keyA), tells(12, keyB), answered}, 12},
		"one goes before, one after the answer": {heard{finds(5, all...), tells(11, keyA), answered, tells(12, keyB)}, 12},
		"their names went before the claim":     {heard{finds(1), tells(6, keyA), tells(7, keyB), answered}, 0},
		"that is told after the answer":         {heard{finds(1), answered, tells(6, keyA), tells(7, keyB)}, 0},
		"a name went before, and goes again":    {heard{finds(1), tells(6, keyA), tells(11, keyA), tells(12, keyB), answered}, 12},
		"a name goes twice, the other once":     {heard{finds(5, all...), answered, tells(11, keyA), tells(12, keyA), tells(13, keyB)}, 13},
		"a name goes twice":                     {heard{finds(5, all...), answered, tells(11, keyA), tells(12, keyA)}, 0},

		"the watch begins late":                     {heard{answered, finds(11, and(key(keyMe, 10))...)}, 0},
		"the watch begins when they are gone":       {heard{answered, finds(13, key(keyMe, 10))}, 13},
		"the watch begins when one is gone":         {heard{answered, finds(13, key(keyMe, 10), key(keyB, 3)), tells(14, keyB)}, 14},
		"the watch begins at the answer's revision": {heard{answered, finds(10, key(keyMe, 10), key(keyB, 3)), tells(14, keyB)}, 14},
		"the watch begins in another past":          {heard{answered, finds(1), tells(11, keyA), tells(12, keyB)}, 12},
		"it had begun later than the answer":        {heard{finds(13, key(keyMe, 10)), answered}, 13},
		"it finds younger ones":                     {heard{answered, finds(13, key(keyMe, 10), key("lock/write/c", 11), key("lock/read/c", 12))}, 13},
		"it finds younger ones of the same names":   {heard{answered, finds(13, key(keyMe, 10), key(keyA, 11), key(keyB, 12))}, 13},

		"it breaks, and nobody has gone":       {heard{finds(5, all...), answered, finds(11, and(key(keyMe, 10))...)}, 0},
		"it breaks, and both have gone":        {heard{finds(5, all...), answered, finds(13, key(keyMe, 10))}, 13},
		"it breaks before the answer comes":    {heard{finds(5, all...), tells(11, keyA), finds(12, key(keyMe, 10), key(keyB, 3)), answered, tells(13, keyB)}, 13},
		"it breaks, and a member lags":         {heard{finds(5, all...), answered, tells(11, keyA), finds(9, all...), tells(12, keyB)}, 12},
		"it breaks before, and a member lags":  {heard{finds(5, all...), tells(11, keyA), finds(9, all...), tells(11, keyA), answered, tells(12, keyB)}, 12},
		"what went before the break goes anew": {heard{finds(1), tells(6, keyA), finds(8, all...), answered, tells(11, keyA)}, 0},

		"its own key goes":                      {heard{finds(5, all...), answered, tells(11, keyMe)}, -1},
		"its own key goes before the answer":    {heard{finds(5, all...), tells(11, keyMe), answered}, -1},
		"its own key goes with the last":        {heard{finds(5, all...), answered, tells(11, keyA), tells(12, keyB, keyMe)}, -1},
		"its own key goes with the last, first": {heard{finds(5, all...), answered, tells(11, keyA), tells(12, keyMe, keyB)}, -1},
		"its name went before the claim":        {heard{finds(5, all...), tells(9, keyMe), answered}, 0},
		"its own key goes unseen":               {heard{finds(5, all...), answered, finds(12)}, -1},
		"its own key goes unseen and is back":   {heard{finds(5, all...), answered, finds(12, key(keyMe, 11))}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := listening(t)
				h.queue.arrive(h.claim)
				for _, heard := range test.heard {
					heard(h)
				}
				got := int64(0)
				select {
				case got = <-h.turn.came:
					if h.turn.lost {
						got = -1
					}
				default:
				}
				if got != test.turn {
					t.Errorf("the turn came at %d, want %d; ahead: %v", got, test.turn, h.turn.ahead)
				}
				h.queue.leave(h.claim)
				if n := len(h.queue.arriving) + len(h.watch.turns); n != 0 {
					t.Errorf("%d claims are still heard for", n)
				}
			})
		})
	}
}

// TestAQueueIsCrowdedIfManySessionsStandInIt has so many keys of so many sessions before
// a claim.
func TestAQueueIsCrowdedIfManySessionsStandInIt(t *testing.T) {
	t.Parallel()
	const prefix = "my-lock/"
	before := func(sessions, each int) *place {
		p := &place{known: 10}
		for s := range sessions {
			for slot := range each {
				p.ahead = append(p.ahead, key(fmt.Sprintf("%s%x-%x-%d", prefix, 100+s, s, slot), 1))
			}
		}
		return p
	}
	for _, test := range []struct {
		*place
		before, crowded bool
	}{
		{before(1, 1), false, false},
		{before(1, 30), false, false},
		{before(manySessions-1, 3), false, false},
		{before(manySessions, 1), false, true},
		{before(fewSessions, 1), false, false},
		{before(fewSessions, 1), true, true},
		{before(fewSessions-1, 2), true, false},
		{&place{ahead: before(1, 3).ahead}, false, true}, // there may be more
		{&place{ahead: before(1, 3).ahead}, true, true},
	} {
		if got := test.place.crowded(prefix, test.before); got != test.crowded {
			t.Errorf("%d keys before it, known at %d, crowded before: %v; crowded: %v", len(test.ahead), test.known, test.before, got)
		}
	}
}

// TestAFreeLockIsNoCrowd takes one, which tells nothing of a queue.
func TestAFreeLockIsNoCrowd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionOn(t.Context(), nil, sessionOptions{})
		s.client.KV = v3.NewKVFromKVClient(new(asked), s.client)
		c := s.claim(s.term, "lock/", "", "")
		if err := c.acquire(t.Context(), "", new(atomic.Bool)); err != nil || c.queue.crowded || c.queue.whole != nil {
			t.Errorf("got %v; crowded: %v; watched: %v", err, c.queue.crowded, c.queue.whole != nil)
		}
	})
}

// TestAClaimReadsNoMoreThanItCanUse has so many claims of the session in a queue: the lists
// of all take as much as their number times what each reads.
func TestAClaimReadsNoMoreThanItCanUse(t *testing.T) {
	t.Parallel()
	s := sessionOn(t.Context(), nil, sessionOptions{})
	defer s.end(nil)
	for _, test := range []struct{ claims, reach int64 }{{1, 34}, {100, 133}, {256, 289}, {10000, 289}} {
		q := s.retain("lock/")
		for q.slots < int(test.claims) {
			s.claim(s.term, "lock/", "", "")
		}
		if got := q.reach(); got != test.reach {
			t.Errorf("of %d claims each reads %d keys, want %d", test.claims, got, test.reach)
		}
	}
}

// TestAClaimThatArrivesTwiceLeavesOnce has the request repeated that creates its key.
func TestAClaimThatArrivesTwiceLeavesOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := listening(t)
		finds(5, key(keyA, 2), key(keyB, 3))(h)
		h.queue.arrive(h.claim)
		tells(11, keyA)(h)
		h.queue.arrive(h.claim)
		answered(h)
		tells(12, keyB)(h)
		if rev := <-h.turn.came; rev != 12 {
			t.Errorf("the turn came at %d", rev)
		}
		h.queue.leave(h.claim)
		if n := len(h.queue.arriving) + len(h.watch.turns); n != 0 {
			t.Errorf("%d claims are still heard for", n)
		}
	})
}

// TestAClaimThatPanicsIsNotHeardFor has the second request of each kind panic, as an
// interceptor may.
func TestAClaimThatPanicsIsNotHeardFor(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(c *claim, ctx context.Context) error{
		"Lock":    func(c *claim, ctx context.Context) error { return c.acquire(ctx, "", new(atomic.Bool)) },
		"TryLock": (*claim).tryAcquire,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := sessionOn(t.Context(), nil, sessionOptions{})
			defer s.end(nil)
			var panics panicking
			s.client.KV = &panics
			c := s.claim(s.term, "lock/", "", "")
			func() {
				defer func() { _ = recover() }()
				_ = take(c, t.Context())
			}()
			if n := len(c.queue.arriving); panics.asked != 2 || c.turn == nil || n != 0 {
				t.Errorf("%s: after %d requests %d claims are still heard for", name, panics.asked, n)
			}
		})
	}
}

// panicking is a store that fails once, and then panics.
type panicking struct {
	v3.KV
	asked int
}

func (p *panicking) Txn(context.Context) v3.Txn { return &panickingTxn{of: p} }

type panickingTxn struct {
	v3.Txn
	of *panicking
}

func (x *panickingTxn) If(...v3.Cmp) v3.Txn  { return x }
func (x *panickingTxn) Then(...v3.Op) v3.Txn { return x }
func (x *panickingTxn) Else(...v3.Op) v3.Txn { return x }

func (x *panickingTxn) Commit() (*v3.TxnResponse, error) {
	if x.of.asked++; x.of.asked > 1 {
		panic("no")
	}
	return nil, rpctypes.ErrNoLeader
}

// TestACrowdEndsTheWatchOverTheQueue has two claims wait by it when the crowd comes.
func TestACrowdEndsTheWatchOverTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := listening(t)
		s := h.queue.session
		wait := func(p *place) (*claim, bool) {
			c := s.claimAs(h.term, "lock/", keyMe)
			c.rev = 10
			h.queue.arrive(c)
			return c, h.queue.join(c, p)
		}
		calm, crowd := &place{ahead: []*mvccpb.KeyValue{key(keyA, 2)}, known: 10}, &place{ahead: []*mvccpb.KeyValue{key(keyA, 2)}}
		if reach := h.queue.reach(); reach <= manyKeys {
			t.Errorf("a claim reads %d keys", reach)
		}
		one, waits := wait(calm)
		two, too := wait(calm)
		three, byWatch := wait(crowd)
		if !waits || !too || byWatch {
			t.Errorf("they wait by the watch: %v, %v, %v", waits, too, byWatch)
		}
		if reach := h.queue.reach(); reach != 1+fewSessions {
			t.Errorf("in a crowd a claim reads %d keys", reach)
		}
		if n := len(h.queue.arriving); n != 0 {
			t.Errorf("%d are arriving that wait", n)
		}
		for i, c := range []*claim{one, three, two, two} {
			if ended := h.watch.ctx.Err() != nil; ended != (i > 2) {
				t.Errorf("after %d have left, the watch has ended: %v", i, ended)
			}
			h.queue.leave(c)
		}
		if h.queue.whole != nil {
			t.Error("the queue keeps a watch that has ended")
		}
		between := &place{known: 10}
		for i := range fewSessions {
			between.ahead = append(between.ahead, key(fmt.Sprint("lock/write/", i), 2))
		}
		for _, p := range []*place{crowd, between} {
			if _, byWatch := wait(p); byWatch || h.queue.whole != nil {
				t.Error("in the crowd a watch begins over all of it")
			}
		}
		if _, byWatch := wait(calm); !byWatch || h.queue.whole == nil || h.queue.reach() <= manyKeys {
			t.Error("after the crowd has gone, no watch begins")
		}
	})
}

// TestAReaderDoesNotWatchTheWholeQueue has one come behind a writer, be the queue crowded
// or not: of the other readers, whose releases it would hear, it knows nothing.
func TestAReaderDoesNotWatchTheWholeQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionOn(t.Context(), nil, sessionOptions{})
		defer s.end(nil)
		s.client.Watcher = mute{}
		for _, crowded := range []bool{false, true} {
			c := s.claim(s.term, "lock/", readKind, writeKind)
			c.rev, c.queue.crowded = 10, crowded
			c.queue.arrive(c)
			if c.queue.join(c, &place{ahead: []*mvccpb.KeyValue{key(keyA, 2)}, known: 10}) || c.queue.whole != nil {
				t.Error("a reader watches the whole queue")
			}
			if c.queue.crowded != crowded || len(c.queue.arriving) != 0 {
				t.Errorf("crowded: %v, was: %v; %d are arriving", c.queue.crowded, crowded, len(c.queue.arriving))
			}
		}
	})
}

// TestAWatchThatHasEndedSaysNothing has the watch before the last one report late: that
// of a claim which is being created, and of one that waits, nothing is known any more.
func TestAWatchThatHasEndedSaysNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := listening(t)
		last := *h
		h.queue.mu.Lock()
		h.watch.close()
		h.watch = h.queue.newQueueWatch()
		h.queue.mu.Unlock()
		finds(5, key(keyA, 2), key(keyB, 3))(h)
		h.queue.arrive(h.claim)
		tells(11, keyA)(h)
		finds(12)(&last)
		tells(12, keyB)(&last)
		answered(h)
		finds(14)(&last)
		tells(15, keyB)(&last)
		if len(h.turn.ahead) != 1 || h.turn.lost {
			t.Errorf("ahead: %v, lost: %v", h.turn.ahead, h.turn.lost)
		}
		if h.queue.whole != h.watch || h.watch.ctx.Err() != nil || h.watch.idle != nil {
			t.Error("the watch has ended or rests")
		}
	})
}

// TestAClaimForgetsWhatAWatchHasSaidThatEnded has the watch before the last one find, on
// beginning anew, that the claim's key is gone, and hear later that the others are. Of
// that the latter alone must not be left when the watch ends.
func TestAClaimForgetsWhatAWatchHasSaidThatEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := listening(t)
		finds(5, key(keyA, 2), key(keyB, 3))(h)
		h.queue.arrive(h.claim)
		tells(11, keyMe)(h)
		finds(12, key(keyA, 2), key(keyB, 3))(h)
		tells(13, keyA, keyB)(h)
		h.queue.mu.Lock()
		h.watch.close()
		h.queue.mu.Unlock()
		answered(h)
		select {
		case rev := <-h.turn.came:
			t.Fatalf("the turn of a claim whose key is gone came at %d, lost: %v", rev, h.turn.lost)
		default:
		}
		h.watch = h.queue.whole
		finds(14)(h)
		if <-h.turn.came; !h.turn.lost {
			t.Error("the claim is not lost")
		}
	})
}

// TestAWatchOverTheQueueOutlivesItsUse has claims come and go.
func TestAWatchOverTheQueueOutlivesItsUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := listening(t)
		for range 3 {
			h.queue.arrive(h.claim)
			answered(h)
			time.Sleep(2 * linger)
			h.queue.leave(h.claim)
			h.turn = nil
			time.Sleep(linger - time.Nanosecond)
		}
		if h.watch.ctx.Err() != nil {
			t.Error("the watch has ended before its time")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if h.watch.ctx.Err() == nil || h.queue.whole != nil {
			t.Errorf("the watch is kept after %v", linger)
		}
	})
}

// waitWhole has the claim wait by the watch over the queue.
func (w *waiting) waitWhole(t *testing.T, ctx context.Context, p place) {
	t.Helper()
	w.claim.queue.arrive(w.claim)
	if !w.claim.queue.join(w.claim, &p) {
		t.Fatal("the queue is crowded")
	}
	go func() { w.ended <- w.claim.await(ctx) }()
	synctest.Wait()
}

func TestTheWatchOverTheQueueIsAllThatALockTakes(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{"lock/a", "lock/b"}, {"lock/b", "lock/a"}} {
		synctest.Test(t, func(t *testing.T) {
			w := behind(t, "lock/a", "lock/b")
			w.waitWhole(t, t.Context(), w.place(2))
			time.Sleep(2 * fresh)
			w.goes(order[0])
			w.still(t)
			time.Sleep(2 * fresh)
			w.taken(t, 0, w.goes(order[1]))
		})
	}
}

func TestACandidateAsksAlsoWhenItsTurnHasCome(t *testing.T) {
	t.Parallel()
	for _, gone := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := behind(t, "lock/a")
			w.claim.strict = true
			w.waitWhole(t, t.Context(), w.place(1))
			rev := w.goes("lock/a")
			w.still(t)
			if gone { // too late for the watch to have told
				w.vanish()
			}
			time.Sleep(w.latency)
			if gone {
				w.missed(t)
				return
			}
			w.taken(t, 1, rev)
		})
	}
}

func TestAClaimWhoseKeyIsGoneWhileItWaitsSaysWhy(t *testing.T) {
	t.Parallel()
	for _, revoked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := behind(t, "lock/a")
			w.revoked = revoked
			w.waitWhole(t, t.Context(), w.place(1))
			w.goes(w.claim.key)
			w.missed(t)
		})
	}
}

// TestAClaimThatIsOverDoesNotTakeItsTurn has the caller give up, or the session end, and
// the one before give the lock back, in either order, before the claim hears of either.
func TestAClaimThatIsOverDoesNotTakeItsTurn(t *testing.T) {
	t.Parallel()
	for i := range 60 { // either may be seen first
		synctest.Test(t, func(t *testing.T) {
			w := behind(t, "lock/a")
			ctx, giveUp := context.WithCancel(t.Context())
			bound, release := w.claim.term.bound(ctx)
			defer release()
			p := w.place(1)
			w.claim.queue.arrive(w.claim)
			w.claim.queue.join(w.claim, &p)
			synctest.Wait()
			w.goes("lock/a")
			synctest.Wait()
			if giveUp(); i%2 == 0 {
				w.claim.term.end(errors.New("over"))
			}
			if err := w.claim.await(bound); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestAClaimStopsWaitingForItsTurnWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := behind(t, "lock/a")
		ctx, giveUp := context.WithCancel(t.Context())
		w.waitWhole(t, ctx, w.place(1))
		giveUp()
		if err := <-w.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// TestAClaimKnowsAllBeforeItOnlyIfThereAreFewerThanItAsksFor has so many be before it.
func TestAClaimKnowsAllBeforeItOnlyIfThereAreFewerThanItAsksFor(t *testing.T) {
	t.Parallel()
	for n := 1; n <= sight+1; n++ {
		synctest.Test(t, func(t *testing.T) {
			w := behind(t, []string{"lock/a", "lock/b", "lock/c"}[:n]...)
			p, err := w.claim.look(t.Context(), w.claim.rev)
			if err != nil || len(p.ahead) != min(n, sight) || (p.known > 0) != (n < sight) {
				t.Errorf("%d are before it: %+v, %v", n, p, err)
			}
		})
	}
}
