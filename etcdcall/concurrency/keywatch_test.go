package concurrency

import (
	"context"
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

func TestFewWatchesAreKeptThatNobodyWaitsForAndNotForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, open := watchesOf(t, &script{watch: stand, reads: []*v3.GetResponse{at(2, 0)}})
		gone := 0
		for i := range 5 {
			q.watch("lock/"+strconv.Itoa(i), 1, func(int64) { gone++ })
			synctest.Wait()
		}
		if kept := open(); gone != 5 || kept != idleWatches {
			t.Errorf("%d keys are gone, %d watches are kept", gone, kept)
		}
		time.Sleep(linger)
		if kept := open(); kept != 0 {
			t.Errorf("%d watches are kept after %v", kept, linger)
		}
		q.forget()
		if len(q.session.queues) != 0 {
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
		time.Sleep(linger)
		if kept := open(); kept != 0 {
			t.Errorf("%d watches are kept after %v", kept, linger)
		}
	})
}
