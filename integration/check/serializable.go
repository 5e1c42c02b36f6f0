package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A Txn is one transaction that a client was told has committed.
type Txn struct {
	// Name tells the transaction from others in errors.
	Name string
	// Began and Ended are when the client asked for the transaction and when
	// it had the answer, by the clock that all clients share. A transaction
	// without them is not judged by time.
	Began, Ended time.Time
	// Revision is the one at which it was committed, or 0 if it wrote nothing.
	Revision int64
	// Reads are the versions that it has read, Writes the values that it has
	// put. Deletions need not be named.
	Reads  map[string]Version
	Writes map[string]string
}

// A Version of a key is what the transaction of one revision made of it.
type Version struct {
	Revision int64 // the mod revision, or 0 if there was no such key
	Value    string
}

// A NotSerializableError says that no order of the transactions explains what
// they read.
type NotSerializableError struct {
	// Cycle is a shortest chain of transactions each of which must come before
	// the next, and the last before the first, with the reasons.
	Cycle []string
}

// Error tells the cycle.
func (e *NotSerializableError) Error() string {
	return "check: not serializable: " + strings.Join(e.Cycle, ", ")
}

// Serializable says whether transactions are strictly serializable: whether
// there is one order of them in which each reads what those before it have
// written last, and in which none comes before one that had ended when it began.
// It returns nil if they are, a [NotSerializableError] if they are not, and
// another error if a transaction is not in the log as it says, shares its revision
// with another, or has read what nobody wrote.
//
// The log has to hold every change of the keys since they were created. What it
// holds beyond the transactions, such as those whose clients were not told that
// they committed, counts as transactions that have only written. A transaction
// that has found no key where one was deleted before cannot be judged, which
// gives [ErrUndecided].
//
// The method is the serialization graph of Adya (1999): the store's revisions
// order the versions of each key, so that every read and write says which
// transactions come before which, and there is an order if there is no cycle.
func Serializable(log *Log, txns []Txn) error {
	s := newSerialization(log)
	for i := range txns {
		if err := s.place(&txns[i]); err != nil {
			return err
		}
	}
	s.orderWrites()
	s.orderTimes(txns)
	if cycle := s.graph.cycle(); cycle != nil {
		return &NotSerializableError{Cycle: cycle}
	}
	return nil
}

// serialization is the graph of the transactions, as it is built.
type serialization struct {
	graph precedence
	// writers are the nodes of the revisions.
	writers map[int64]int
	// versions are those of each key, by revision.
	versions map[string][]version
	nodes    []int // of the transactions, in the order they were placed
}

type version struct {
	Version
	deleted bool
}

func newSerialization(log *Log) *serialization {
	s := &serialization{writers: make(map[int64]int), versions: make(map[string][]version)}
	for _, e := range log.Events {
		key, rev := string(e.Kv.Key), e.Kv.ModRevision
		if _, ok := s.writers[rev]; !ok {
			s.writers[rev] = s.graph.node(fmt.Sprintf("revision %d", rev))
		}
		v := version{Version{rev, string(e.Kv.Value)}, e.Type == clientv3.EventTypeDelete}
		s.versions[key] = append(s.versions[key], v)
	}
	return s
}

// place finds the node of a transaction and orders it among those that wrote
// what it has read.
func (s *serialization) place(t *Txn) error {
	node, ok := s.writers[t.Revision]
	switch {
	case t.Revision == 0:
		node = s.graph.node(t.Name)
	case !ok:
		return fmt.Errorf("check: %s committed at revision %d, where nothing was written", t.Name, t.Revision)
	case slices.Contains(s.nodes, node):
		return fmt.Errorf("check: %s committed at revision %d, as %s did", t.Name, t.Revision, s.graph.names[node])
	default:
		s.graph.names[node] = fmt.Sprintf("%s (revision %d)", t.Name, t.Revision)
	}
	s.nodes = append(s.nodes, node)
	for key, value := range t.Writes {
		if i, ok := s.find(key, t.Revision); !ok || s.versions[key][i].Value != value {
			return fmt.Errorf("check: %s wrote %q to %s at revision %d, which is not there", t.Name, value, key, t.Revision)
		}
	}
	for key, read := range t.Reads {
		if err := s.orderRead(node, t.Name, key, read); err != nil {
			return err
		}
	}
	return nil
}

// orderRead puts a reader behind who wrote what it read, and before who wrote next.
func (s *serialization) orderRead(node int, name, key string, read Version) error {
	next := 0
	if read.Revision == 0 {
		if slices.ContainsFunc(s.versions[key], func(v version) bool { return v.deleted }) {
			return fmt.Errorf("%w: %s found no %s, which was deleted at times", ErrUndecided, name, key)
		}
	} else {
		i, ok := s.find(key, read.Revision)
		if !ok || s.versions[key][i].deleted || s.versions[key][i].Value != read.Value {
			return fmt.Errorf("check: %s read %q from %s, of revision %d, which nobody wrote", name, read.Value, key, read.Revision)
		}
		s.graph.before(s.writers[read.Revision], node, "wrote "+key+" read by")
		next = i + 1
	}
	if next < len(s.versions[key]) {
		s.graph.before(node, s.writers[s.versions[key][next].Revision], "read "+key+" before it was written by")
	}
	return nil
}

func (s *serialization) find(key string, rev int64) (int, bool) {
	return slices.BinarySearchFunc(s.versions[key], rev, func(v version, rev int64) int { return cmp.Compare(v.Revision, rev) })
}

// orderWrites orders those who wrote to the same key.
func (s *serialization) orderWrites() {
	for key, versions := range s.versions {
		for i := 1; i < len(versions); i++ {
			s.graph.before(s.writers[versions[i-1].Revision], s.writers[versions[i].Revision], "wrote "+key+" before")
		}
	}
}

// orderTimes orders those who ended before others began. Each moment at which a
// transaction ended is a node, behind that transaction and all earlier moments.
func (s *serialization) orderTimes(txns []Txn) {
	var ended []int
	for i, t := range txns {
		if !t.Began.IsZero() && !t.Ended.IsZero() {
			ended = append(ended, i)
		}
	}
	began := slices.Clone(ended)
	slices.SortFunc(ended, func(a, b int) int { return txns[a].Ended.Compare(txns[b].Ended) })
	slices.SortFunc(began, func(a, b int) int { return txns[a].Began.Compare(txns[b].Began) })
	moment := -1
	for _, b := range began {
		for len(ended) > 0 && txns[ended[0]].Ended.Before(txns[b].Began) {
			next := s.graph.node("the end of " + txns[ended[0]].Name)
			s.graph.before(s.nodes[ended[0]], next, "was over at")
			if moment >= 0 {
				s.graph.before(moment, next, "was before")
			}
			moment, ended = next, ended[1:]
		}
		if moment >= 0 {
			s.graph.before(moment, s.nodes[b], "was before the beginning of")
		}
	}
}
