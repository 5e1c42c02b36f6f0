package concurrency

import (
	"cmp"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// entry is one key of a roster.
type entry struct {
	key    string
	create int64
}

// roster is what is known of the keys under one prefix, in the order of their
// creation. It learns of keys from listings, and of deletions from a watch;
// between two listings it does not hear of new keys, which are younger than all
// that matter to a claim that was listed. It is not safe for concurrent use.
type roster struct {
	// base is the revision of the snapshot that the roster began with.
	base  int64
	order []*entry
	byKey map[string]*entry
	// deleted holds the revisions at which keys were deleted, while a listing
	// is under way that may be older than that; nil while none is.
	deleted map[string]int64
}

// newRoster returns what a listing at revision rev says.
func newRoster(kvs []*mvccpb.KeyValue, rev int64) *roster {
	r := &roster{
		base:  rev,
		order: make([]*entry, 0, len(kvs)),
		byKey: make(map[string]*entry, len(kvs)),
	}
	for _, kv := range kvs {
		r.insert(string(kv.Key), kv.CreateRevision)
	}
	return r
}

// merge adds what was listed when c was created, and c itself. Keys that are
// known to have been deleted since are left out. A listing from before the
// roster's beginning says nothing new.
func (r *roster) merge(l *listing, c *claim) {
	if l.rev <= r.base {
		return
	}
	for _, kv := range l.kvs {
		r.mergeKey(string(kv.Key), kv.CreateRevision, l.rev)
	}
	r.mergeKey(c.key, c.rev, c.rev)
}

func (r *roster) mergeKey(key string, create, rev int64) {
	if r.deleted[key] <= rev {
		r.insert(key, create)
	}
}

// delete removes a key that was deleted at revision rev.
func (r *roster) delete(key string, rev int64) {
	if r.deleted != nil {
		r.deleted[key] = rev
	}
	if e := r.byKey[key]; e != nil && e.create < rev {
		r.remove(e)
	}
}

// has reports whether the key that was created at revision create is there.
func (r *roster) has(key string, create int64) bool {
	e := r.byKey[key]
	return e != nil && e.create == create
}

func (r *roster) insert(key string, create int64) {
	if e := r.byKey[key]; e != nil {
		if e.create >= create {
			return
		}
		r.remove(e)
	}
	e := &entry{key, create}
	i, _ := slices.BinarySearchFunc(r.order, e, byCreation)
	r.order = slices.Insert(r.order, i, e)
	r.byKey[key] = e
}

func (r *roster) remove(e *entry) {
	delete(r.byKey, e.key)
	i, _ := slices.BinarySearchFunc(r.order, e, byCreation)
	if i == 0 {
		r.order[0] = nil
		r.order = r.order[1:]
		return
	}
	r.order = slices.Delete(r.order, i, i+1)
}

// byCreation is the order of a queue: by create revision, and by key among
// those that one transaction created.
func byCreation(a, b *entry) int {
	if c := cmp.Compare(a.create, b.create); c != 0 {
		return c
	}
	return strings.Compare(a.key, b.key)
}
