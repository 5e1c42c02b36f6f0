package etcdcall

import (
	"context"
	"errors"
	"math"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// knownKey is a key that was handed out and not deleted since.
type knownKey struct {
	revision int64
	list     uint64 // the last list that had it, 0 if it came later
}

// listing is a list that is being read.
type listing struct {
	revision int64 // of all its parts; 0 before the first
	cluster  uint64
	from     string // the key to go on at
	origin   Origin
	stream   *listStream // nil while it is read in pages
	// paged says that the next part is read as a page, and unstreamable that
	// all other parts are.
	paged, unstreamable bool
	// rewritten says that nothing known can be trusted: what has the same
	// revision may be another value.
	rewritten bool
}

// The number of keys in a page begins with firstPage and follows the size of
// what was read, so that a page has some pageBytes, within the other bounds.
const (
	firstPage = 500
	minPage   = 10
	maxPage   = 20_000
	pageBytes = 1 << 20
)

// begin begins a list.
func (l *ListWatch) begin(origin Origin, rewritten bool) {
	if l.watch != nil {
		l.watch.Stop()
	}
	if l.list != nil {
		l.list.stream.close()
	}
	l.lists++
	l.list = &listing{from: l.key, origin: origin, rewritten: rewritten}
}

// readList reads the next part of the list: a page, or what comes next on the
// stream. The first part is a page, since a stream tells its revision last. So
// is the one after a break: a page is retried in every way, and makes sure that
// the list goes on.
func (l *ListWatch) readList(ctx context.Context) (*Changes, error) {
	list := l.list
	if list.revision == 0 || list.paged || l.noStreams.Load() {
		return l.readPage(ctx)
	}
	if list.stream == nil {
		list.stream = l.openStream(ctx)
	}
	return l.readStream(ctx)
}

// readPage reads the next part of the list as a page.
func (l *ListWatch) readPage(ctx context.Context) (*Changes, error) {
	list := l.list
	opts := append(l.partOptions(), clientv3.WithLimit(l.page))
	resp, err := l.kv.Get(ctx, list.from, opts...)
	switch {
	case isOvertaken(err):
		l.overtaken(err)
		return nil, nil
	case err != nil:
		return nil, err
	case list.revision != 0 && list.cluster != resp.Header.ClusterId:
		l.begin(Resynced, true)
		return nil, nil
	}
	if list.revision == 0 {
		// Begun now, the watch is not overtaken by compaction while the
		// other parts are read.
		if err := l.beginWatch(resp.Header.Revision + 1); err != nil {
			return nil, err
		}
		list.revision, list.cluster = resp.Header.Revision, resp.Header.ClusterId
	}
	list.paged = list.unstreamable
	events := l.fromPage(resp.Kvs)
	if resp.More {
		return l.part(events), nil
	}
	return l.lastPart(events), nil
}

// partOptions are the options by which the rest of the list is read.
func (l *ListWatch) partOptions() []clientv3.OpOption {
	opts := []clientv3.OpOption{clientv3.WithRev(l.list.revision)}
	if l.end != "" {
		opts = append(opts, clientv3.WithRange(l.end))
	}
	return opts
}

// isOvertaken reports whether err says that the revision of a list is gone.
func isOvertaken(err error) bool {
	return errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, rpctypes.ErrFutureRev)
}

// overtaken begins the list anew, because the rest of it is gone. Larger pages
// make sure that a list ends some time, however often the store is compacted.
func (l *ListWatch) overtaken(err error) {
	l.least = min(4*l.page, math.MaxInt32)
	l.page = l.least
	l.begin(Resynced, l.list.rewritten || errors.Is(err, rpctypes.ErrFutureRev))
}

// part hands out events of a list that goes on. It returns nil if there are
// none.
func (l *ListWatch) part(events []*clientv3.Event) *Changes {
	if len(events) == 0 {
		return nil
	}
	return &Changes{Events: events, Revision: l.revision.Load(), Origin: l.list.origin, More: true}
}

// lastPart hands out the last events of a list, and ends it.
func (l *ListWatch) lastPart(events []*clientv3.Event) *Changes {
	events = append(events, l.vanished()...)
	c := &Changes{Events: events, Revision: l.list.revision, Origin: l.list.origin}
	l.list, l.least = nil, 0
	l.revision.Store(c.Revision)
	return c
}

func (l *ListWatch) beginWatch(rev int64) error {
	opts := []clientv3.OpOption{clientv3.WithRev(rev)}
	if l.end != "" {
		opts = append(opts, clientv3.WithRange(l.end))
	}
	if l.prevKV {
		opts = append(opts, clientv3.WithPrevKV())
	}
	w, err := NewWatch(l.ctx, l.watcher, l.key, opts...)
	if err != nil {
		return err
	}
	l.watch = w
	return nil
}

// fromPage returns puts of what is new in a page, and chooses the size of the
// next one.
func (l *ListWatch) fromPage(kvs []*mvccpb.KeyValue) []*clientv3.Event {
	if int64(len(kvs)) == l.page {
		size := 0
		for _, kv := range kvs {
			size += len(kv.Key) + len(kv.Value)
		}
		l.page = max(min(max(l.page*pageBytes/int64(size+1), l.page/4, minPage), l.page*4, maxPage), l.least)
	}
	return l.take(kvs)
}

// take returns puts of what is new in a part of the list, and notes where the
// next part begins.
func (l *ListWatch) take(kvs []*mvccpb.KeyValue) []*clientv3.Event {
	if len(kvs) == 0 {
		return nil
	}
	l.list.from = string(kvs[len(kvs)-1].Key) + "\x00"
	var events []*clientv3.Event
	for _, kv := range kvs {
		before := l.known[string(kv.Key)]
		l.known[string(kv.Key)] = knownKey{revision: kv.ModRevision, list: l.lists}
		if before.revision != kv.ModRevision || l.list.rewritten {
			events = append(events, &clientv3.Event{Type: clientv3.EventTypePut, Kv: kv})
		}
	}
	return events
}

// vanished returns deletions of what was known and is not in the list.
func (l *ListWatch) vanished() []*clientv3.Event {
	var events []*clientv3.Event
	for key, k := range l.known {
		if k.list != l.lists {
			delete(l.known, key)
			events = append(events, &clientv3.Event{
				Type: clientv3.EventTypeDelete,
				Kv:   &mvccpb.KeyValue{Key: []byte(key), ModRevision: l.list.revision},
			})
		}
	}
	return events
}

// note keeps account of what is known.
func (l *ListWatch) note(events []*clientv3.Event) {
	for _, ev := range events {
		if ev.Type == clientv3.EventTypeDelete {
			delete(l.known, string(ev.Kv.Key))
		} else {
			l.known[string(ev.Kv.Key)] = knownKey{revision: ev.Kv.ModRevision}
		}
	}
}
