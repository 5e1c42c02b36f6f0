package concurrency

import (
	"context"
	"sync"
	"time"

	v3 "go.etcd.io/etcd/client/v3"
)

// linger is how long a queue is followed after nobody of this session stands in
// it any more, so that a lock that is taken again and again keeps one watch.
const linger = 30 * time.Second

// heads says how many entries at the head of a queue are admitted together.
type heads func(order []*entry) int

// oneAtATime admits the oldest entry alone.
func oneAtATime(order []*entry) int { return min(len(order), 1) }

// queue is the line of those who wait for what a prefix stands for: the keys
// under the prefix, in the order of their creation. It is one object for all
// claims that a session has there, and one watch, of deletions only, serves them
// all: a claim is listed with all that are older, so that it has to hear of
// nothing but their going.
type queue struct {
	session *Session
	prefix  string
	heads   heads

	mu     sync.Mutex
	claims map[string]*claim
	roster *roster // nil until the watch stands
	// underWay counts listings.
	underWay int
	stop     context.CancelFunc
	idle     *time.Timer
}

// queue returns the queue of a prefix.
func (s *Session) queue(prefix string, admits heads) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[prefix]
	if q == nil {
		q = &queue{session: s, prefix: prefix, heads: admits, claims: make(map[string]*claim)}
		s.queues[prefix] = q
	}
	return q
}

// wait waits until c is admitted. It returns why not if c is lost or ctx ends
// before.
func (q *queue) wait(ctx context.Context, c *claim) error {
	select {
	case <-c.admitted:
		return nil
	case <-c.ctx.Done():
		return c.loss()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listing makes a listing by which the roster will be kept, within list:
// deletions that happen meanwhile are remembered.
func (q *queue) listing(list func() error) error {
	q.mu.Lock()
	q.underWay++
	if q.roster != nil && q.roster.deleted == nil {
		q.roster.deleted = make(map[string]int64)
	}
	q.mu.Unlock()
	err := list()
	q.mu.Lock()
	if q.underWay--; q.underWay == 0 && q.roster != nil {
		q.roster.deleted = nil
	}
	q.mu.Unlock()
	return err
}

// follows reports whether the prefix is being followed.
func (q *queue) follows() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stop != nil
}

// join makes c hear of its admission and its loss.
func (q *queue) join(c *claim) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.joined {
		return
	}
	c.joined = true
	q.claims[c.key] = c
	q.start()
	if q.roster != nil {
		q.place(c)
		q.admit()
	}
}

// leave ends the interest in c.
func (q *queue) leave(c *claim) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.joined && q.claims[c.key] == c {
		delete(q.claims, c.key)
		q.rest()
	}
}

// place finds c its place in the roster, or that it is lost.
func (q *queue) place(c *claim) {
	if c.rev <= q.roster.base {
		c.complete = true
	} else if c.listed != nil {
		q.roster.merge(c.listed, c)
		c.complete = c.listed.covers(c)
	}
	if !q.roster.has(c.key, c.rev) {
		q.lose(c)
	}
}

func (q *queue) lose(c *claim) {
	c.lose(errDeleted)
	delete(q.claims, c.key)
}

// admit tells the claims at the head of the queue.
func (q *queue) admit() {
	order := q.roster.order
	for _, e := range order[:q.heads(order)] {
		c := q.claims[e.key]
		switch {
		case c == nil || c.isHead || e.create != c.rev:
		case c.complete:
			c.isHead = true
			close(c.admitted)
		case !c.relisting:
			c.relisting = q.session.spawn(func() { q.relist(c) })
		}
	}
}

// relist lists a claim again whose first listing was cut short, now that all
// who were in that are gone.
func (q *queue) relist(c *claim) {
	_ = q.listing(func() error {
		resp, err := repeatable(c.ctx, func(ctx context.Context) (*v3.GetResponse, error) {
			return q.session.client.Get(ctx, q.prefix, listOptions...)
		})
		q.mu.Lock()
		defer q.mu.Unlock()
		c.relisting = false
		if err != nil || q.roster == nil || q.claims[c.key] != c {
			return err
		}
		c.listed = &listing{resp.Kvs, resp.Header.Revision, resp.More}
		q.place(c)
		q.admit()
		return nil
	})
}

// start begins to follow the prefix unless it is followed already.
func (q *queue) start() {
	if q.idle != nil {
		q.idle.Stop()
	}
	if q.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(q.session.life)
	q.stop = stop
	what := followed{
		prefix: q.prefix,
		watch:  []v3.OpOption{v3.WithFilterPut()},
		get:    []v3.OpOption{v3.WithKeysOnly()},
	}
	q.session.spawn(func() {
		defer stop()
		_ = follow(ctx, q.session.client, what, &following{queue: q, ctx: ctx})
	})
}

// rest stops following the prefix after a while if nobody joins.
func (q *queue) rest() {
	if len(q.claims) > 0 {
		return
	}
	if q.idle == nil {
		q.idle = time.AfterFunc(linger, q.sleep)
		return
	}
	q.idle.Reset(linger)
}

func (q *queue) sleep() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.claims) > 0 || q.stop == nil {
		return
	}
	q.stop()
	q.stop, q.roster = nil, nil
}

// following is what one watch tells the queue. A watch that the queue has
// stopped may still speak; it is not heard.
type following struct {
	*queue
	ctx context.Context
}

// restarted implements follower.
func (f *following) restarted(snapshot *v3.GetResponse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return
	}
	f.roster = newRoster(snapshot.Kvs, snapshot.Header.Revision)
	if f.underWay > 0 {
		f.roster.deleted = make(map[string]int64)
	}
	for _, c := range f.claims {
		f.place(c)
	}
	f.admit()
}

// moved implements follower.
func (f *following) moved(batch *v3.WatchResponse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return
	}
	for _, ev := range batch.Events {
		key, rev := string(ev.Kv.Key), ev.Kv.ModRevision
		f.roster.delete(key, rev)
		if c := f.claims[key]; c != nil && c.rev < rev {
			f.lose(c)
		}
	}
	f.admit()
}
