package concurrency

import (
	"context"
	"slices"
	"time"

	v3 "go.etcd.io/etcd/client/v3"
)

// standing is a watch over deletions in a queue, which outlives its use.
//
// Where the same sessions take the same lock in turns, each waits for the same keys
// time and again, and to begin a watch costs three round trips.
type standing struct {
	queue *queue
	ctx   context.Context
	stop  context.CancelFunc
	// used reports whether somebody waits, and forget takes the watch from the queue.
	used   func() bool
	forget func()

	// Guarded by the queue's mutex:
	idle  *time.Timer // runs while nobody waits
	ended bool
}

const (
	// linger is how long a watch is kept that nobody waits for.
	linger = 30 * time.Second
	// idleWatches is how many of them a queue keeps at most.
	idleWatches = 4
)

// begin begins to tell f of the deletions of a key, or of all keys under a prefix. The
// queue's mutex must be held, as for what follows.
func (s *standing) begin(q *queue, key string, f follower, opts ...v3.OpOption) {
	s.queue = q
	s.ctx, s.stop = context.WithCancel(q.session.life)
	q.retain()
	what := followed{key: key, watch: append(opts, v3.WithFilterPut()), get: append(slices.Clip(opts), v3.WithKeysOnly())}
	q.session.spawn(func() { follow(s.ctx, q.session.client, what, f) })
}

// rest keeps, for a while, a watch that nobody waits for.
func (s *standing) rest() {
	q := s.queue
	if s.used() || s.idle != nil || s.ended {
		return
	}
	s.idle = time.AfterFunc(linger, s.expire)
	q.idle = append(q.idle, s)
	if len(q.idle) > idleWatches {
		q.idle[0].close()
	}
}

// expire ends the watch, unless somebody has come just before.
func (s *standing) expire() {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if !s.used() {
		s.close()
	}
}

// wake takes the watch from those that are resting.
func (s *standing) wake() {
	if s.idle != nil {
		s.idle.Stop()
		s.idle = nil
		s.queue.idle = slices.DeleteFunc(s.queue.idle, func(o *standing) bool { return o == s })
	}
}

// close ends the watch.
func (s *standing) close() {
	s.wake()
	if s.ended {
		return
	}
	s.ended = true
	s.forget()
	s.stop()
	s.queue.forget()
}
