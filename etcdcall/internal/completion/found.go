package completion

import "go.etcd.io/etcd/api/v3/mvccpb"

// Found is what the slot of a write says about it.
type Found struct {
	State State
	// Revision is that of the last change of the slot, at which the write was
	// applied if State says that it was.
	Revision int64
	// Succeeded says which branch was taken.
	Succeeded bool

	// marks holds the keys of the marks that the write left beside its record,
	// one for each nested transaction that was reached, and the branch taken.
	marks map[string]byte
}

// State is what became of a write.
type State int

const (
	// Lost is a write of which nothing can be said: the slot is missing, or
	// holds what only somebody else can have written there.
	Lost State = iota
	// Pending is a write that was not applied before the slot was read.
	Pending
	// Sealed is a write that was not applied and never will be.
	Sealed
	// Applied is a write that was applied.
	Applied
)

// Found reads a slot and its marks, in the order of their keys. What no client of
// this kind has written counts as missing: whoever did it is no better than one
// who deletes slots.
func (w *Write) Found(kvs []*mvccpb.KeyValue) Found {
	if len(kvs) == 0 || string(kvs[0].GetKey()) != string(w.Slot) {
		return Found{}
	}
	r, err := parseRecord(kvs[0].GetValue())
	if err != nil {
		return Found{}
	}
	f := Found{State: w.state(r), Revision: kvs[0].GetModRevision(), Succeeded: r.mark == markThen}
	for _, kv := range kvs[1:] {
		if kv.GetModRevision() == f.Revision && len(kv.GetValue()) == 1 {
			if f.marks == nil {
				f.marks = make(map[string]byte)
			}
			f.marks[string(kv.GetKey())] = kv.GetValue()[0]
		}
	}
	return f
}

func (w *Write) state(r record) State {
	switch {
	case r.seq < w.Seq:
		return Pending
	case r.seq > w.Seq, r.mark == markElse && w.Flat():
		return Lost
	case r.applied():
		return Applied
	default:
		return Sealed
	}
}
