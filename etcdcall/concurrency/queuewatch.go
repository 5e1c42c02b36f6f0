package concurrency

import (
	"slices"

	v3 "go.etcd.io/etcd/client/v3"
)

// queueWatch is one watch over the deletions in a queue, for all claims of a session
// that wait there. Each of them knows from the request that created its key who is
// before it, and hears from the watch when they are gone. So a lock passes from hand
// to hand without another request, and so it does where somebody gives up waiting.
//
// In return each session hears of each release. Where many sessions stand in a queue,
// that costs more than it saves: see place.crowded.
type queueWatch struct {
	standing

	// Guarded by the queue's mutex:
	turns []*turn // those who wait
	// base is what was in the queue when the watch began, nil before.
	base *v3.GetResponse
}

// join has a claim, whose request was answered with p, wait for its turn. It returns
// false if the queue is crowded, or if p does not tell: readers know of no readers.
func (q *queue) join(c *claim, p *place) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	whole := c.rivals == q.prefix
	if whole {
		q.crowded = p.crowded(q.prefix, q.crowded)
	}
	if q.crowded || !whole {
		q.drop(c.turn)
		return false
	}
	w := q.whole
	if w == nil {
		w = q.newQueueWatch()
	}
	w.wake()
	w.turns = append(w.turns, c.turn)
	q.arriving = without(q.arriving, c.turn)
	c.turn.begin(p, w.base)
	w.tell()
	return true
}

// arrive is to be called before the key of a claim is created that will wait if it has
// to. It must be followed by a leave.
func (q *queue) arrive(c *claim) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.turn == nil {
		c.turn = &turn{claim: c, came: make(chan int64, 1)}
		q.arriving = append(q.arriving, c.turn)
	}
}

// leave undoes arrive and join.
func (q *queue) leave(c *claim) {
	if c.turn == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(c.turn)
}

func (q *queue) drop(t *turn) {
	q.arriving = without(q.arriving, t)
	if w := q.whole; w != nil {
		w.turns = without(w.turns, t)
		w.settle()
	}
}

func (q *queue) newQueueWatch() *queueWatch {
	w := &queueWatch{}
	w.used = func() bool { return len(w.turns) > 0 }
	w.forget = func() { q.whole = nil }
	q.whole = w
	w.begin(q, q.prefix, w, v3.WithPrefix())
	return w
}

// restarted implements follower.
func (w *queueWatch) restarted(snapshot *v3.GetResponse) {
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	if w.ended {
		return // another may have begun
	}
	w.base = snapshot
	for _, t := range w.queue.arriving {
		t.early = nil
	}
	for _, t := range w.turns {
		t.restart(snapshot)
	}
	w.tell()
}

// moved implements follower. What was deleted at one revision is in one batch.
func (w *queueWatch) moved(batch *v3.WatchResponse) {
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	if w.ended {
		return
	}
	for _, ev := range batch.Events {
		key, rev := string(ev.Kv.Key), ev.Kv.ModRevision
		for _, t := range w.queue.arriving {
			t.note(key, rev)
		}
		for _, t := range w.turns {
			t.gone(key, rev)
		}
	}
	w.tell()
}

// tell tells those whose turn has come, or will not come any more.
func (w *queueWatch) tell() {
	w.turns = slices.DeleteFunc(w.turns, (*turn).over)
	w.settle()
}

// settle lets the watch rest when nobody waits, or ends it if the queue is crowded.
func (w *queueWatch) settle() {
	if w.queue.crowded && !w.used() {
		w.close()
	} else {
		w.rest()
	}
}

func without(all []*turn, t *turn) []*turn {
	return slices.DeleteFunc(all, func(o *turn) bool { return o == t })
}
