package concurrency

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v3 "go.etcd.io/etcd/client/v3"
)

// watchesOf returns the queue of a session on s, and a function that says how many
// watches there are when all is quiet.
func watchesOf(t *testing.T, s *script) (q *queue, open func() int64) {
	t.Helper()
	var n atomic.Int64
	watch := s.watch
	s.watch = func(ctx context.Context, i int, events chan<- v3.WatchResponse) {
		n.Add(1)
		defer n.Add(-1)
		watch(ctx, i, events)
	}
	session := &Session{client: s.client(t.Context()), life: t.Context(), queues: make(map[string]*queue)}
	return session.retain("lock/"), func() int64 {
		synctest.Wait()
		return n.Load()
	}
}

// watched returns the keys that are watched, and how many of these watches rest.
func (q *queue) watched() (keys []string, resting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Sorted(maps.Keys(q.watches)), len(q.idle)
}

func TestFewWatchesAreKeptThatNobodyWaitsForAndNotForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, open := watchesOf(t, &script{watch: stand, reads: []*v3.GetResponse{at(2, 0)}})
		gone := 0
		const keys = 2 * idleWatches
		for i := range keys {
			q.watch("lock/"+strconv.Itoa(i), 1, func(int64) { gone++ })
			synctest.Wait()
		}
		if kept := open(); gone != keys || kept != idleWatches {
			t.Errorf("%d keys are gone, %d watches are kept", gone, kept)
		}
		if kept, _ := q.watched(); kept[0] != "lock/"+strconv.Itoa(keys-idleWatches) {
			t.Errorf("those of %v are kept, which are not the latest", kept)
		}
		time.Sleep(linger)
		if kept := open(); kept != 0 {
			t.Errorf("%d watches are kept after %v", kept, linger)
		}
		q.forget()
		q.session.retain("another/").forget()
		if q.session.queues["lock/"] != nil {
			t.Error("the queue is kept")
		}
	})
}

func TestAWatchIsKeptAsLongAsSomebodyWaitsAndUsedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{watch: stand, reads: []*v3.GetResponse{at(1, 1)}}
		q, open := watchesOf(t, s)
		gone := func(int64) { t.Error("the key is there") }
		leave := q.watch("lock/0", 1, gone)
		time.Sleep(2 * linger)
		if kept := open(); kept != 1 {
			t.Errorf("%d watches for one who waits", kept)
		}
		leave()
		time.Sleep(linger / 2)
		leave = q.watch("lock/0", 1, gone)
		time.Sleep(2 * linger)
		if kept := open(); kept != 1 || s.watches != 1 {
			t.Errorf("%d watches, %d were begun", kept, s.watches)
		}
		leave()
		time.Sleep(linger - time.Second)
		q.watch("lock/0", 1, gone)()
		time.Sleep(linger - time.Second)
		if kept := open(); kept != 1 {
			t.Error("the watch ended before its time")
		}
		time.Sleep(time.Second)
		if kept := open(); kept != 0 {
			t.Errorf("%d watches are kept after %v", kept, linger)
		}
		q.watch("lock/0", 1, gone)
		if kept := open(); kept != 1 {
			t.Errorf("%d watches for one who comes after the end of the last", kept)
		}
	})
}

// TestAWatchThatCannotBeReadWithIsEnded has two reads fail.
func TestAWatchThatCannotBeReadWithIsEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{watch: stand, reads: []*v3.GetResponse{broken, broken, at(1, 1)}}
		q, open := watchesOf(t, s)
		q.watch("lock/0", 1, func(int64) { t.Error("the key is there") })
		time.Sleep(time.Second)
		if kept := open(); kept != 1 || s.watches != 3 {
			t.Errorf("%d watches, %d were begun", kept, s.watches)
		}
	})
}

// TestNoWatchIsEndedThatSomebodyWaitsFor has more watches come back from their rest
// than may rest.
func TestNoWatchIsEndedThatSomebodyWaitsFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, open := watchesOf(t, &script{watch: stand, reads: []*v3.GetResponse{at(1, 1)}})
		gone := func(int64) { t.Error("the key is there") }
		for i := range 2 * idleWatches {
			key := "lock/" + strconv.Itoa(i)
			q.watch(key, 1, gone)()
			synctest.Wait()
			q.watch(key, 1, gone)
		}
		time.Sleep(2 * linger)
		if kept := open(); kept != 2*idleWatches {
			t.Errorf("%d watches for %d who wait", kept, 2*idleWatches)
		}
	})
}

// TestWhatHappensToAKeyWakesNoWatch has a key go and come that nobody waits for.
func TestWhatHappensToAKeyWakesNoWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		happens := make(chan v3.WatchResponse)
		q, open := watchesOf(t, &script{reads: []*v3.GetResponse{at(1, 1)}, watch: func(ctx context.Context, _ int, events chan<- v3.WatchResponse) {
			events <- begun
			for {
				select {
				case e := <-happens:
					events <- e
				case <-ctx.Done():
					return
				}
			}
		}})
		q.watch("lock/0", 1, func(int64) { t.Error("nobody waits") })()
		for rev := range int64(2 * idleWatches) {
			time.Sleep(time.Second)
			happens <- gone(rev + 2)
		}
		if _, resting := q.watched(); open() != 1 || resting != 1 {
			t.Errorf("%d watches are kept, %d rest", open(), resting)
		}
		time.Sleep(linger)
		if kept := open(); kept != 0 {
			t.Errorf("%d watches are kept after %v", kept, linger)
		}
	})
}

// TestWhatComesLateToAWatchChangesNothing has the timer of a watch at rest have
// expired when somebody waits for it again, and when it has been ended.
func TestWhatComesLateToAWatchChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, open := watchesOf(t, &script{watch: stand, reads: []*v3.GetResponse{at(1, 1)}})
		leave := q.watch("lock/0", 1, func(int64) { t.Error("the key is there") })
		q.mu.Lock()
		w := q.watches["lock/0"]
		q.mu.Unlock()
		w.expire()
		if open() != 1 {
			t.Error("a watch was ended that somebody waits for")
		}
		leave()
		leave()
		w.expire()
		w.expire()
		w.moved(new(gone(2)))
		if _, resting := q.watched(); open() != 0 || resting != 0 {
			t.Errorf("%d watches are kept, %d rest", open(), resting)
		}
		q.session.mu.Lock()
		defer q.session.mu.Unlock()
		if q.refs != 1 {
			t.Errorf("the queue has %d references", q.refs)
		}
	})
}

// TestWhoWaitsIsToldWhenItsKeyIsGone says what reads find and what watches report,
// each of which but the last breaks.
func TestWhoWaitsIsToldWhenItsKeyIsGone(t *testing.T) {
	t.Parallel()
	events := func(batches ...v3.WatchResponse) []v3.WatchResponse { return batches }
	reads := func(found ...*v3.GetResponse) []*v3.GetResponse { return found }
	for name, test := range map[string]struct {
		create int64 // of the key that is waited for
		reads  []*v3.GetResponse
		events []v3.WatchResponse // of the last watch
		told   []int64
	}{
		"there":                                 {3, reads(at(5, 3)), nil, nil},
		"not yet read":                          {8, reads(at(5, 0)), nil, nil},
		"an older one gone":                     {8, reads(at(5, 3)), events(gone(7)), nil},
		"an older one gone before it was read":  {3, reads(at(5, 3)), events(gone(2)), nil},
		"gone before the watch":                 {3, reads(at(5, 0)), nil, []int64{5}},
		"created anew before the watch":         {3, reads(at(5, 4)), nil, []int64{5}},
		"gone":                                  {3, reads(at(5, 3)), events(gone(7)), []int64{7}},
		"gone, and gone again":                  {3, reads(at(5, 3)), events(gone(7), gone(9)), []int64{7}},
		"gone after an older one":               {8, reads(at(5, 3)), events(gone(7), gone(9)), []int64{9}},
		"gone after an older one, in one batch": {8, reads(at(5, 3)), events(gone(7, 9)), []int64{9}},
		"gone while nobody watched":             {3, reads(at(5, 3), at(8, 0)), nil, []int64{8}},
		"created anew while nobody watched":     {3, reads(at(5, 3), at(8, 7)), nil, []int64{8}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				breaks := len(test.reads) - 1
				q, _ := watchesOf(t, &script{reads: test.reads, watch: func(ctx context.Context, n int, events chan<- v3.WatchResponse) {
					events <- begun
					if n <= breaks {
						return
					}
					for _, e := range test.events {
						events <- e
					}
					<-ctx.Done()
				}})
				var told []int64
				gone := func(rev int64) { told = append(told, rev) }
				q.watch("lock/0", test.create, gone)
				time.Sleep(time.Second)
				synctest.Wait()
				if !slices.Equal(told, test.told) {
					t.Fatalf("told %v, want %v", told, test.told)
				}
				told = nil
				q.watch("lock/0", test.create, gone)
				if len(told) != len(test.told) {
					t.Errorf("who comes later is told %v", told)
				}
			})
		})
	}
}
