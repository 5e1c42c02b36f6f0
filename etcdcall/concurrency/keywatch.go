package concurrency

import (
	"context"
	"slices"
	"time"

	v3 "go.etcd.io/etcd/client/v3"
)

// keyWatch is a watch over the deletions of one key, for all claims of a queue
// that wait for that key to go.
//
// It outlives the waiting: where the same sessions take the same lock in turns,
// each waits for the same neighbour time and again, and to begin a watch costs
// three round trips. So a lock costs one event for each time it is handed over,
// however many wait for it.
type keyWatch struct {
	queue *queue
	key   string
	ctx   context.Context
	stop  context.CancelFunc
	idle  *time.Timer // runs while nobody waits

	// Guarded by the queue's mutex:
	waiters []*awaited
	// base is the revision at which the key was read, 0 before; created was its
	// create revision there, 0 if there was none.
	base, created int64
	// deleted is the revision of the last deletion since.
	deleted int64
}

// awaited is what one claim waits for: that the key that was created at a
// revision is gone.
type awaited struct {
	create int64
	gone   func(rev int64)
}

const (
	// linger is how long a watch is kept that nobody waits for.
	linger = 30 * time.Second
	// idleWatches is how many of them a queue keeps at most.
	idleWatches = 4
)

// watch calls gone, once, when the key that was created at revision create is
// gone, with a revision at which it was: at once if that is known already. The
// returned function ends that.
func (q *queue) watch(key string, create int64, gone func(rev int64)) (end func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.watches[key]
	if w == nil {
		w = q.newWatch(key)
	}
	w.wake()
	d := &awaited{create, gone}
	w.waiters = append(w.waiters, d)
	w.tell()
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		w.leave(d)
	}
}

func (q *queue) newWatch(key string) *keyWatch {
	w := &keyWatch{queue: q, key: key}
	w.ctx, w.stop = context.WithCancel(q.session.life)
	if q.watches == nil {
		q.watches = make(map[string]*keyWatch)
	}
	q.watches[key] = w
	q.retain()
	what := followed{key: key, watch: []v3.OpOption{v3.WithFilterPut()}, get: []v3.OpOption{v3.WithKeysOnly()}}
	q.session.spawn(func() { follow(w.ctx, q.session.client, what, w) })
	return w
}

// restarted implements follower.
func (w *keyWatch) restarted(snapshot *v3.GetResponse) {
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	w.base, w.created = snapshot.Header.Revision, 0
	if len(snapshot.Kvs) > 0 {
		w.created = snapshot.Kvs[0].CreateRevision
	}
	w.tell()
}

// moved implements follower.
func (w *keyWatch) moved(batch *v3.WatchResponse) {
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	w.deleted = batch.Events[len(batch.Events)-1].Kv.ModRevision
	w.tell()
}

// tell tells those whose keys are gone.
func (w *keyWatch) tell() {
	w.waiters = slices.DeleteFunc(w.waiters, func(d *awaited) bool {
		rev, gone := w.isGone(d.create)
		if gone {
			d.gone(rev)
		}
		return gone
	})
	w.rest()
}

// isGone reports whether the key that was created at revision create is known
// to be gone, and a revision at which it was.
func (w *keyWatch) isGone(create int64) (rev int64, gone bool) {
	if w.deleted > create {
		return w.deleted, true
	}
	return w.base, w.base >= create && w.created != create
}

func (w *keyWatch) leave(d *awaited) {
	if i := slices.Index(w.waiters, d); i >= 0 {
		w.waiters = slices.Delete(w.waiters, i, i+1)
		w.rest()
	}
}

// rest keeps, for a while, a watch that nobody waits for.
func (w *keyWatch) rest() {
	q := w.queue
	if len(w.waiters) > 0 || w.idle != nil || q.watches[w.key] != w {
		return
	}
	w.idle = time.AfterFunc(linger, w.expire)
	q.idle = append(q.idle, w)
	if len(q.idle) > idleWatches {
		q.idle[0].close()
	}
}

// expire ends the watch, unless somebody has come just before.
func (w *keyWatch) expire() {
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	if len(w.waiters) == 0 {
		w.close()
	}
}

// wake takes the watch from those that are resting.
func (w *keyWatch) wake() {
	if w.idle != nil {
		w.idle.Stop()
		w.idle = nil
		w.queue.idle = slices.DeleteFunc(w.queue.idle, func(o *keyWatch) bool { return o == w })
	}
}

// close ends the watch.
func (w *keyWatch) close() {
	q := w.queue
	w.wake()
	if q.watches[w.key] != w {
		return
	}
	delete(q.watches, w.key)
	w.stop()
	q.forget()
}
