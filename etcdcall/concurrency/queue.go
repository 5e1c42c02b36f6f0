package concurrency

import (
	"strconv"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// queue is the line of those who wait for what a prefix stands for: the keys
// under the prefix, in the order of their creation. It is one object for all
// claims that a session has there.
//
// The queue names the keys of its claims. A name belongs to one claim at a time,
// from before its key is created until the key is certainly gone, so that a
// claim never takes the key of another for its own. Names are used again, since
// etcd remembers every name until it is compacted, and looks at all of them when
// it reads the prefix; and so that a session that comes again and again is known
// by the same key to those that wait for it.
type queue struct {
	session *Session
	prefix  string

	// refs counts claims and watches; guarded by the session's mutex.
	refs int

	mu      sync.Mutex
	slots   int   // how many names there are
	free    []int // those that no claim has
	watches map[string]*keyWatch
	idle    []*keyWatch // those that nobody waits for, the latest last
}

// retain returns the queue of a prefix. Each retain must be followed by a
// forget.
func (s *Session) retain(prefix string) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[prefix]
	if q == nil {
		q = &queue{session: s, prefix: prefix}
		s.queues[prefix] = q
	}
	q.refs++
	return q
}

func (q *queue) retain() {
	q.session.mu.Lock()
	defer q.session.mu.Unlock()
	q.refs++
}

func (q *queue) forget() {
	q.session.mu.Lock()
	defer q.session.mu.Unlock()
	if q.refs--; q.refs == 0 {
		delete(q.session.queues, q.prefix)
	}
}

// claim returns a claim to a new place in the queue of prefix. Its key lies
// under prefix + kind, and it waits for older keys under prefix + rivals.
func (s *Session) claim(t *term, prefix, kind, rivals string) *claim {
	q := s.retain(prefix)
	q.mu.Lock()
	var slot int
	if n := len(q.free); n > 0 {
		slot, q.free = q.free[n-1], q.free[:n-1]
	} else {
		q.slots++
		slot = q.slots
	}
	q.mu.Unlock()
	key := prefix + kind + strconv.FormatInt(int64(t.lease), 16) + "-" + s.mark + "-" + strconv.Itoa(slot)
	return newClaim(q, t, key, slot, prefix+rivals)
}

// claimAs is claim with a key of the caller's own.
func (s *Session) claimAs(t *term, prefix, key string) *claim {
	return newClaim(s.retain(prefix), t, key, 0, prefix)
}

func newClaim(q *queue, t *term, key string, slot int, rivals string) *claim {
	return &claim{queue: q, term: t, key: key, slot: slot, rivals: rivals}
}

// vacate lets the name of c, whose key is certainly gone, be used again.
func (c *claim) vacate() {
	q := c.queue
	if c.slot != 0 {
		q.mu.Lock()
		q.free = append(q.free, c.slot)
		q.mu.Unlock()
	}
	q.forget()
}

// youngest reads the n youngest keys under prefix.
func youngest(prefix string, n int64, opts ...v3.OpOption) v3.Op {
	return v3.OpGet(prefix, append(opts, v3.WithPrefix(), v3.WithKeysOnly(), v3.WithLimit(n),
		v3.WithSort(v3.SortByCreateRevision, v3.SortDescend))...)
}

// nobody holds if there is no key under prefix.
func nobody(prefix string) v3.Cmp {
	none := created(prefix, pb.Compare_EQUAL, 0)
	none.GetCompare().RangeEnd = []byte(v3.GetPrefixRangeEnd(prefix))
	return none
}

// created compares the create revision of a key. It is what v3.Compare makes,
// without the copies of it.
func created(key string, is pb.Compare_CompareResult, rev int64) v3.Cmp {
	cmp := v3.CreateRevision(key)
	c := cmp.GetCompare()
	c.Result, c.TargetUnion = is, &pb.Compare_CreateRevision{CreateRevision: rev}
	return cmp
}
