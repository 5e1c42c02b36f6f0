package check

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A Watch is what one watcher was given. Fill in From, record with
// [Watch.Record], and compare with [Watch.Check]. It is not safe for concurrent
// use.
type Watch struct {
	// From is the first revision that was asked for.
	From int64
	// Match says which changes of the log the watcher asked for. Nil means
	// all of them.
	Match func(*clientv3.Event) bool
	// PrevKV says that previous values were asked for. One that is missing
	// may have been compacted, one that is there must be right.
	PrevKV bool

	portions []portion
}

// portion is what a watcher was given at a time.
type portion struct {
	events   []*clientv3.Event
	complete int64
}

// Record notes the next portion that the watcher was given. complete is the
// revision of which the watcher was told that it has everything, with this
// portion; zero if it was told nothing of the kind.
func (w *Watch) Record(events []*clientv3.Event, complete int64) {
	w.portions = append(w.portions, portion{events: events, complete: complete})
}

// Events returns how many events were recorded.
func (w *Watch) Events() int {
	n := 0
	for _, p := range w.portions {
		n += len(p.events)
	}
	return n
}

// Last returns the revision of the last event that was recorded, zero if there
// is none.
func (w *Watch) Last() int64 {
	for _, p := range slices.Backward(w.portions) {
		if e := p.events; len(e) > 0 {
			return e[len(e)-1].Kv.ModRevision
		}
	}
	return 0
}

// A Guarantee is something that etcd promises to watchers, in the words of its
// own documentation.
type Guarantee string

// The guarantees. Previous is no promise of etcd's documentation, but of its
// API: an event with a previous value has the right one.
const (
	Ordered      Guarantee = "ordered"      // by revision
	Unique       Guarantee = "unique"       // no event comes twice
	Reliable     Guarantee = "reliable"     // no event is left out, and none invented
	Atomic       Guarantee = "atomic"       // a revision is never split
	Resumable    Guarantee = "resumable"    // a watch begins at the revision asked for
	Bookmarkable Guarantee = "bookmarkable" // what was said to be complete is
	Previous     Guarantee = "previous"     // previous values are right
)

// A Violation is a guarantee that did not hold.
type Violation struct { //nolint:errname // in the words of the guarantees
	Guarantee Guarantee
	Detail    string
}

// Error tells which guarantee, and how it was broken.
func (v *Violation) Error() string { return fmt.Sprintf("check: not %s: %s", v.Guarantee, v.Detail) }

// Check holds what the watcher was given against the log, which must reach from
// w.From to until, and returns all violations that it finds. The watcher must
// have been given everything up to revision until.
func (w *Watch) Check(log *Log, until int64) error {
	c := checker{watch: w, seen: make(map[change]bool)}
	for _, e := range log.Events {
		if rev := e.Kv.ModRevision; rev >= w.From && rev <= until && (w.Match == nil || w.Match(e)) {
			c.expected = append(c.expected, e)
		}
	}
	c.order()
	c.completeness()
	c.content(log)
	return errors.Join(c.violations...)
}

// change identifies an event.
type change struct {
	revision int64
	key      string
}

func changeOf(e *clientv3.Event) change { return change{e.Kv.ModRevision, string(e.Kv.Key)} }

type checker struct {
	watch      *Watch
	expected   []*clientv3.Event
	seen       map[change]bool
	violations []error
}

func (c *checker) violated(g Guarantee, format string, args ...any) {
	c.violations = append(c.violations, &Violation{Guarantee: g, Detail: fmt.Sprintf(format, args...)})
}

// order looks at one portion after another.
func (c *checker) order() {
	var last, complete int64
	for i, p := range c.watch.portions {
		first := true
		for _, e := range p.events {
			rev := e.Kv.ModRevision
			switch {
			case c.seen[changeOf(e)]:
				c.violated(Unique, "portion %d repeats %s at revision %d", i, e.Kv.Key, rev)
			case rev < last:
				c.violated(Ordered, "portion %d has revision %d after %d", i, rev, last)
			case rev == last && first:
				c.violated(Atomic, "portion %d has more of revision %d", i, rev)
			}
			if rev <= complete {
				c.violated(Bookmarkable, "portion %d has revision %d after all up to %d was said to be there", i, rev, complete)
			}
			c.seen[changeOf(e)] = true
			last, first = max(last, rev), false
		}
		complete = max(complete, p.complete)
	}
}

// completeness looks at what was left out.
func (c *checker) completeness() {
	given := make(map[change]bool)
	next := 0 // of the expected events
	for i, p := range c.watch.portions {
		for _, e := range p.events {
			given[changeOf(e)] = true
		}
		for ; next < len(c.expected) && c.expected[next].Kv.ModRevision <= p.complete; next++ {
			if e := c.expected[next]; !given[changeOf(e)] {
				c.violated(Bookmarkable, "portion %d says that all up to %d is there; %s at %d is not", i, p.complete, e.Kv.Key, e.Kv.ModRevision)
			}
		}
	}
	for i, e := range c.expected {
		if c.seen[changeOf(e)] {
			continue
		}
		if i == 0 {
			c.violated(Resumable, "it begins after revision %d, the first from %d on", e.Kv.ModRevision, c.watch.From)
		}
		c.violated(Reliable, "%s at revision %d is left out", e.Kv.Key, e.Kv.ModRevision)
	}
}

// content looks at what the events say.
func (c *checker) content(log *Log) {
	real := make(map[change]*clientv3.Event, len(c.expected))
	for _, e := range c.expected {
		real[changeOf(e)] = e
	}
	before := previousValues(log)
	for _, p := range c.watch.portions {
		for _, e := range p.events {
			r := real[changeOf(e)]
			if r == nil || r.Type != e.Type || !bytes.Equal(r.Kv.Value, e.Kv.Value) {
				c.violated(Reliable, "%s at revision %d never was, or not so", e.Kv.Key, e.Kv.ModRevision)
				continue
			}
			if prev := before[changeOf(e)]; c.watch.PrevKV && e.PrevKv != nil && (prev == nil || !bytes.Equal(prev.Kv.Value, e.PrevKv.Value)) {
				c.violated(Previous, "%s at revision %d comes with the previous value %q", e.Kv.Key, e.Kv.ModRevision, e.PrevKv.Value)
			}
			if !c.watch.PrevKV && e.PrevKv != nil {
				c.violated(Previous, "%s at revision %d comes with a previous value that nobody asked for", e.Kv.Key, e.Kv.ModRevision)
			}
		}
	}
}

// previousValues finds for each change the put that it replaced. Changes of keys
// that were there before the log began have none, and so does the first put.
func previousValues(log *Log) map[change]*clientv3.Event {
	before := make(map[change]*clientv3.Event, len(log.Events))
	last := make(map[string]*clientv3.Event)
	for _, e := range log.Events {
		key := string(e.Kv.Key)
		if p := last[key]; p != nil && p.Type == clientv3.EventTypePut {
			before[changeOf(e)] = p
		}
		last[key] = e
	}
	return before
}
