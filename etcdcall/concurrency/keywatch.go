package concurrency

import (
	"slices"

	v3 "go.etcd.io/etcd/client/v3"
)

// keyWatch is a watch over the deletions of one key, for all claims of a queue
// that wait for that key to go.
type keyWatch struct {
	standing
	key string

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
	w := &keyWatch{key: key}
	w.used = func() bool { return len(w.waiters) > 0 }
	w.forget = func() { delete(q.watches, key) }
	if q.watches == nil {
		q.watches = make(map[string]*keyWatch)
	}
	q.watches[key] = w
	w.begin(q, key, w)
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
