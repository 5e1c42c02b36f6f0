package concurrency

import (
	"container/list"
	"sync"
	"time"

	"github.com/reprise-go/reprise"
	v3 "go.etcd.io/etcd/client/v3"
)

const (
	// memoryAge is how long something is remembered that no server confirms.
	memoryAge = time.Minute
	// defaultMemory is the default size of a Memory, in bytes.
	defaultMemory = 1 << 20
	// itemOverhead is about what an entry costs beyond its key and value.
	itemOverhead = 256
)

// Memory is what transactions remember of the keys that they have read and
// written, so that later ones need not read them again: see [WithMemory].
// Processes that are the only ones, or mostly, to change what they work on save
// a round trip with each transaction; a Memory shared by transactions that
// always find their keys changed saves nothing.
//
// It is safe for concurrent use, and belongs to one client. What it holds is
// bounded: what was confirmed longest ago goes first, and nothing is used that no
// server has confirmed for a minute.
type Memory struct {
	client *v3.Client
	limit  int

	mu      sync.Mutex
	cluster uint64 // that all of it is of
	size    int
	entries map[string]*list.Element // of *remembered
	recent  *list.List               // the most recently confirmed first
}

type remembered struct {
	key string
	item
	at time.Time // when a server has last said so
}

func (r *remembered) size() int { return len(r.key) + len(r.value) + itemOverhead }

// NewMemory makes a Memory for transactions of a client. Its limit is in bytes,
// and counts keys, values and 256 bytes for each; 0 and less stand for 1 MiB.
func NewMemory(c *v3.Client, limit int) *Memory {
	if limit <= 0 {
		limit = defaultMemory
	}
	return &Memory{client: c, limit: limit, entries: make(map[string]*list.Element), recent: list.New()}
}

// WithMemory runs the transaction first on what earlier transactions with the
// same Memory have read and written, and asks the cluster only whether that is
// still true: when it commits, or, if it does not write, in a request of
// comparisons alone. If all is as remembered, the transaction takes that one
// round trip, whether it writes or not and however many keys it reads. If not,
// the answer brings what has changed, and the function runs again on that, which
// costs what prefetching would have: one round trip if the transaction only
// reads, two if it writes. That is no conflict: there is no pause, and it does
// not count as an attempt.
//
// Every isolation level promises what it promises without a Memory. So at those
// that show one snapshot, SerializableSnapshot and Serializable, things are
// recalled together only if the store is known to have had them at one moment: as
// after a transaction that read or wrote them all. What does not fit is read, in
// the request that also asks about the rest. RepeatableReads recalls everything,
// and commits as safely; but the function must bear to see, in a run that does not
// count, values of different moments. ReadCommitted, which compares nothing,
// neither remembers nor recalls. An error or a panic of the function reaches the
// caller only if the cluster confirms what the function has read.
//
// What is remembered is told apart by revisions. After a cluster was restored
// from a backup under its own identity, wait a minute or begin with a new Memory,
// unless the restore has raised the revision (etcdutl's --bump-revision). A nil
// Memory changes nothing.
func WithMemory(m *Memory) STMOption {
	return func(o *stmOptions) { o.memory = m }
}

// checkMemory finds a Memory of another client.
func (o *stmOptions) checkMemory(c *v3.Client) error {
	if o.memory != nil && o.memory.client != c {
		return &reprise.ArgumentError{Func: "NewSTM", Problem: "the Memory is one of another client"}
	}
	return nil
}

// recall returns what is remembered of a key. A nil Memory knows nothing.
func (m *Memory) recall(key string) (item, bool) {
	if m == nil {
		return item{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[key]
	if !ok {
		return item{}, false
	}
	r := e.Value.(*remembered) //nolint:forcetypeassert // nothing else is put in
	if time.Since(r.at) > memoryAge {
		m.drop(e)
		return item{}, false
	}
	return r.item, true
}

// knows reports whether all of the keys are remembered.
func (m *Memory) knows(keys []string) bool {
	for _, key := range keys {
		if _, ok := m.recall(key); !ok {
			return false
		}
	}
	return true
}

// learn remembers what a server of a cluster has said.
func (m *Memory) learn(cluster uint64, items map[string]item) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if cluster != m.cluster {
		m.clear()
		m.cluster = cluster
	}
	for key, it := range items {
		m.put(&remembered{key, it, time.Now()})
	}
	for m.size > m.limit {
		m.drop(m.recent.Back())
	}
}

// forget drops what is remembered of keys.
func (m *Memory) forget(keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		if e, ok := m.entries[key]; ok {
			m.drop(e)
		}
	}
}

// put takes the place of what is older. Answers may arrive in any order.
func (m *Memory) put(r *remembered) {
	if e, ok := m.entries[r.key]; ok {
		old := e.Value.(*remembered) //nolint:forcetypeassert // nothing else is put in
		if old.last > r.last {
			return
		}
		m.drop(e)
	}
	m.entries[r.key] = m.recent.PushFront(r)
	m.size += r.size()
}

func (m *Memory) drop(e *list.Element) {
	r := m.recent.Remove(e).(*remembered) //nolint:forcetypeassert // nothing else is put in
	delete(m.entries, r.key)
	m.size -= r.size()
}

func (m *Memory) clear() {
	clear(m.entries)
	m.recent.Init()
	m.size = 0
}
