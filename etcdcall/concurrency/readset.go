package concurrency

import (
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// item is a key as the store had it at every revision from first to last.
type item struct {
	value       string
	mod         int64 // 0 if there is no such key
	first, last int64
}

// newItem is what was read of a key at a revision.
func newItem(kvs []*mvccpb.KeyValue, rev int64) item {
	if len(kvs) == 0 {
		return item{first: rev, last: rev} // nobody says since when
	}
	return item{value: string(kvs[0].Value), mod: kvs[0].ModRevision, first: kvs[0].ModRevision, last: rev}
}

// confirmed is the item when the store has it at a later revision with the same
// mod revision.
func (it item) confirmed(rev int64) item {
	it.last = rev
	if it.mod == 0 {
		it.first = rev // it may have come and gone meanwhile
	}
	return it
}

// readSet is what an attempt knows of the store.
type readSet struct {
	// known is what servers have told and the function has not asked for yet,
	// read what it has.
	known, read map[string]item
	// rev is the revision that all that servers have told is of, or 0 if it is
	// not of one. header came with the last of it.
	rev    int64
	header *pb.ResponseHeader
	// first and last are the revisions at which the store had all of read.
	first, last int64
	// recalled says that something in read was remembered, and no server was
	// asked since whether it is still true.
	recalled bool
}

func newReadSet() *readSet {
	return &readSet{known: make(map[string]item), read: make(map[string]item), last: math.MaxInt64}
}

// empty reports whether no server has told anything.
func (s *readSet) empty() bool { return s.header == nil }

// fits reports whether the store had an item at one moment with all that was read.
func (s *readSet) fits(it item) bool { return max(s.first, it.first) <= min(s.last, it.last) }

func (s *readSet) add(key string, it item) {
	delete(s.known, key)
	s.read[key] = it
	s.first, s.last = max(s.first, it.first), min(s.last, it.last)
}

// confirm notes that a server has said that all of read is true at a revision.
func (s *readSet) confirm(header *pb.ResponseHeader) {
	s.rev, s.header, s.recalled = header.Revision, header, false
	s.known = make(map[string]item) // of an older revision
	s.first, s.last = 0, math.MaxInt64
	for key, it := range s.read {
		s.add(key, it.confirmed(header.Revision))
	}
}

// guards compare everything that was read.
func (s *readSet) guards() []v3.Cmp {
	guards := make([]v3.Cmp, 0, len(s.read))
	for key, it := range s.read {
		guards = append(guards, v3.Compare(v3.ModRevision(key), "=", it.mod))
	}
	return guards
}

// lastHeader is the header of the last read, at the revision of the snapshot.
func (s *readSet) lastHeader() *pb.ResponseHeader {
	if s.header == nil {
		return new(pb.ResponseHeader)
	}
	if s.rev != 0 {
		s.header.Revision = s.rev
	}
	return s.header
}

// gets are operations that read keys.
func gets(keys []string, opts ...v3.OpOption) []v3.Op {
	ops := make([]v3.Op, len(keys))
	for i, key := range keys {
		ops[i] = v3.OpGet(key, opts...)
	}
	return ops
}

// answers are what the gets of keys brought, at a revision.
func answers(keys []string, resp *v3.TxnResponse, rev int64) map[string]item {
	items := make(map[string]item, len(keys))
	for i, r := range resp.Responses {
		items[keys[i]] = newItem(r.GetResponseRange().Kvs, rev)
	}
	return items
}
