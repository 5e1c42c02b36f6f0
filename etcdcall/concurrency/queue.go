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
	slots   int     // how many names there are
	free    []*slot // those that no claim has
	watches map[string]*keyWatch
	whole   *queueWatch
	idle    []*standing // those that nobody waits for, the latest last
	// arriving are claims whose keys are being created.
	arriving []*turn
	// crowded says that so many sessions stood in the queue lately that none waits
	// by a watch over the whole.
	crowded bool
}

// slot is a name of a key, and what every claim that has it asks of the store: made
// once, for what was claimed last.
type slot struct {
	number int

	lease        v3.LeaseID
	kind, rivals string
	key          string

	create, remove v3.Op
	nobody         v3.Cmp
}

// become makes all of the name for a claim of these.
func (n *slot) become(q *queue, lease v3.LeaseID, kind, rivals string) {
	*n = slot{number: n.number, lease: lease, kind: kind, rivals: rivals}
	n.key = q.prefix + kind + strconv.FormatInt(int64(lease), 16) + "-" + q.session.mark + "-" + strconv.Itoa(n.number)
	n.create, n.remove = v3.OpPut(n.key, "", v3.WithLease(lease)), v3.OpDelete(n.key)
	n.nobody = nobody(q.prefix + rivals)
}

// retain returns the queue of a prefix. Each retain must be followed by a
// forget.
func (s *Session) retain(prefix string) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.idle
	if q == nil || q.prefix != prefix {
		q = s.queues[prefix]
	}
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

// forget undoes retain. The queue that was left last is kept, for who takes the same
// free lock time and again.
func (q *queue) forget() {
	s := q.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.refs--; q.refs > 0 || s.idle == q {
		return
	}
	if before := s.idle; before != nil && before.refs == 0 {
		delete(s.queues, before.prefix)
	}
	s.idle = q
}

// claim returns a claim to a new place in the queue of prefix. Its key lies
// under prefix + kind, and it waits for older keys under prefix + rivals.
func (s *Session) claim(t *term, prefix, kind, rivals string) *claim {
	q := s.retain(prefix)
	q.mu.Lock()
	var name *slot
	if n := len(q.free); n > 0 {
		name, q.free = q.free[n-1], q.free[:n-1]
	} else {
		q.slots++
		name = &slot{number: q.slots}
	}
	q.mu.Unlock()
	if name.key == "" || name.lease != t.lease || name.kind != kind || name.rivals != rivals {
		name.become(q, t.lease, kind, rivals)
	}
	return &claim{queue: q, term: t, key: name.key, slot: name, rivals: prefix + rivals}
}

// claimAs is claim with a key of the caller's own.
func (s *Session) claimAs(t *term, prefix, key string) *claim {
	return &claim{queue: s.retain(prefix), term: t, key: key, rivals: prefix}
}

// create is the request to create the key of c.
func (c *claim) create(value string) v3.Op {
	if c.slot != nil && value == "" {
		return c.slot.create
	}
	return v3.OpPut(c.key, value, v3.WithLease(c.term.lease))
}

// remove is the request to delete the key of c.
func (c *claim) remove() v3.Op {
	if c.slot != nil {
		return c.slot.remove
	}
	return v3.OpDelete(c.key)
}

// alone holds if c has no rivals.
func (c *claim) alone() v3.Cmp {
	if c.slot != nil {
		return c.slot.nobody
	}
	return nobody(c.rivals)
}

// vacate lets the name of c, whose key is certainly gone, be used again.
func (c *claim) vacate() {
	q := c.queue
	if c.slot != nil {
		q.mu.Lock()
		q.free = append(q.free, c.slot)
		q.mu.Unlock()
	}
	q.forget()
}

// reach returns how many of the youngest keys a claim reads that takes its place: so
// many that it knows all if the queue is not crowded.
func (q *queue) reach() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.crowded {
		return 1 + fewSessions
	}
	return 1 + manyKeys + int64(min(q.slots-len(q.free), manyClaims))
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
