package etcdcall

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
)

// ListWatch hands out what a range of keys holds and then how it changes, for
// ever: whoever applies its events to an empty map has a copy of the range. It
// rides through what a [Watch] rides through, and also through compaction and
// through the restore of a backup: it then reads the range anew and hands out
// the difference to what it has handed out before, as events whose [Origin] is
// [Resynced].
//
// It reads in pages, all at one revision. While it watches it holds each key
// with its revision, but no values.
//
// It ends by its context, by [ListWatch.Stop] or with an error, as a Watch does;
// compaction and restores do not end it. The methods are safe for concurrent
// use, but to one reader at a time, the order of events means something.
type ListWatch struct {
	kv       clientv3.KV
	watcher  clientv3.Watcher
	key, end string
	prevKV   bool
	ctx      context.Context //nolint:containedctx // the life of the ListWatch
	stop     context.CancelCauseFunc
	revision atomic.Int64

	reading sync.Mutex // held by Next
	known   map[string]knownKey
	list    *listing // nil while watching
	watch   *Watch   // nil before the first page
	rest    *Changes // what a loop over events has left
	page    int64    // how many keys to ask for at a time
	least   int64    // page is no smaller, because smaller ones were overtaken
	lists   uint64   // how many have begun
}

// knownKey is a key that was handed out and not deleted since.
type knownKey struct {
	revision int64
	list     uint64 // the last list that had it
}

// listing is a list that is being read.
type listing struct {
	revision int64 // of all its pages; 0 before the first
	cluster  uint64
	from     string // the key to go on at
	origin   Origin
	// rewritten says that nothing known can be trusted: what has the same
	// revision may be another value.
	rewritten bool
}

// Origin says where the events of [Changes] come from.
type Origin int

const (
	// Watched events are changes as they happened.
	Watched Origin = iota
	// Listed events are synthetic: they put what the first list found.
	Listed
	// Resynced events are synthetic: they turn what was handed out before
	// into what a later list found, because the changes in between can no
	// longer be had. A deletion among them bears the revision of the list.
	Resynced
)

// String returns a word for the origin.
func (o Origin) String() string {
	switch o {
	case Watched:
		return "watched"
	case Listed:
		return "listed"
	case Resynced:
		return "resynced"
	default:
		return fmt.Sprintf("Origin(%d)", int(o))
	}
}

// The number of keys in a page begins with firstPage and follows the size of
// what was read, so that a page has some pageBytes, within the other bounds.
const (
	firstPage = 500
	minPage   = 10
	maxPage   = 20_000
	pageBytes = 1 << 20
)

const forever = 10 * 365 * 24 * time.Hour

// NewListWatch returns a ListWatch of key, or of the range that opts make of it,
// usually clientv3.WithPrefix. clientv3.WithPrevKV makes the watched events have
// their previous values. Other options that select or order what is read, such
// as WithRev, WithLimit, WithSort and the filters, make no sense here and give a
// [*reprise.ArgumentError].
//
// Nothing is read before the first call of [ListWatch.Next]. cli is the client of
// [New]; for another one the first Next returns a [*ConfigurationError].
func NewListWatch(ctx context.Context, cli *clientv3.Client, key string, opts ...clientv3.OpOption) (*ListWatch, error) {
	return NewListWatchOf(ctx, cli.KV, cli.Watcher, key, opts...)
}

// NewListWatchOf is [NewListWatch] for the KV and the Watcher of [Parts].
func NewListWatchOf(ctx context.Context, kv clientv3.KV, w clientv3.Watcher, key string, opts ...clientv3.OpOption) (*ListWatch, error) {
	op, err := watchOp(key, opts)
	if err != nil {
		return nil, err
	}
	if op.Rev() != 0 || op.Limit() != 0 || op.IsSortSet() || op.IsFilterPut() || op.IsFilterDelete() || op.IsKeysOnly() || op.IsCountOnly() || op.IsSerializable() {
		return nil, &reprise.ArgumentError{Func: "NewListWatch", Problem: "an option selects or orders what is read"}
	}
	l := &ListWatch{
		kv: kv, watcher: w, key: string(op.KeyBytes()), end: string(op.RangeBytes()), prevKV: op.IsPrevKV(),
		known: make(map[string]knownKey), page: firstPage,
	}
	l.ctx, l.stop = context.WithCancelCause(ctx)
	l.begin(Listed, false)
	return l, nil
}

// Next returns the next changes: pages of the first list, and then what
// changes. If ctx ends first it returns an error that matches ctx's; the next
// Next continues.
func (l *ListWatch) Next(ctx context.Context) (*Changes, error) {
	l.reading.Lock()
	defer l.reading.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.ctx, func() { cancel(contextEnd(l.ctx)) })()
	// Calls without a deadline would give up after a while.
	ctx, forget := context.WithTimeout(ctx, forever)
	defer forget()
	for {
		if err := l.Err(); err != nil {
			return nil, err
		}
		if c := l.rest; c != nil {
			l.rest = nil
			return c, nil
		}
		c, err := l.step(ctx)
		if err != nil && l.Err() != nil {
			return nil, l.Err()
		}
		if err != nil && ctx.Err() != nil {
			return nil, contextEnd(ctx)
		}
		if c != nil || err != nil {
			return c, err
		}
	}
}

// step reads a page or waits for changes. It returns neither changes nor an
// error if there is another step to take first.
func (l *ListWatch) step(ctx context.Context) (*Changes, error) {
	if l.list != nil {
		return l.readPage(ctx)
	}
	c, err := l.watch.Next(ctx)
	if err == nil {
		l.note(c.Events)
		l.revision.Store(c.Revision)
		return c, nil
	}
	if broken, ok := errors.AsType[*WatchError](err); ok && broken.Reason != WatchRefused {
		l.begin(Resynced, broken.Reason == WatchRestored)
		return nil, nil
	}
	return nil, err
}

// All returns an iterator over what Next returns. It ends as that of
// [Watch.All].
func (l *ListWatch) All() iter.Seq2[*Changes, error] {
	return iterate(func() (*Changes, error) { return l.Next(context.Background()) })
}

// Events returns an iterator over single events, synthetic ones included. It
// ends as that of [Watch.All].
func (l *ListWatch) Events() iter.Seq2[*clientv3.Event, error] {
	return func(yield func(*clientv3.Event, error) bool) {
		for c, err := range l.All() {
			if err != nil {
				yield(nil, err)
				return
			}
			for i, ev := range c.Events {
				if !yield(ev, nil) {
					l.putBack(c, i+1)
					return
				}
			}
		}
	}
}

// putBack makes the events of c from the i-th on the next to be handed out.
func (l *ListWatch) putBack(c *Changes, i int) {
	l.reading.Lock()
	defer l.reading.Unlock()
	rest := *c
	rest.Events = c.Events[i:]
	l.rest = &rest
}

// Stop ends the ListWatch. Stopping again does nothing.
func (l *ListWatch) Stop() { l.stop(ErrStopped) }

// Err returns [ErrStopped] or the context's error once the ListWatch was ended
// by them, and nil before.
func (l *ListWatch) Err() error {
	if l.ctx.Err() == nil {
		return nil
	}
	if cause := context.Cause(l.ctx); errors.Is(cause, ErrStopped) {
		return ErrStopped
	}
	return contextEnd(l.ctx)
}

// Revision returns the revision of which everything has been handed out. It is
// 0 before the first list is complete.
func (l *ListWatch) Revision() int64 { return l.revision.Load() }

// begin begins a list.
func (l *ListWatch) begin(origin Origin, rewritten bool) {
	if l.watch != nil {
		l.watch.Stop()
		l.watch = nil
	}
	l.lists++
	l.list = &listing{from: l.key, origin: origin, rewritten: rewritten}
}

// readPage reads the next page of the list.
func (l *ListWatch) readPage(ctx context.Context) (*Changes, error) {
	list := l.list
	opts := []clientv3.OpOption{clientv3.WithLimit(l.page), clientv3.WithRev(list.revision)}
	if l.end != "" {
		opts = append(opts, clientv3.WithRange(l.end))
	}
	resp, err := l.kv.Get(ctx, list.from, opts...)
	switch {
	case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrFutureRev):
		// The rest of the list is gone. Larger pages make sure that a
		// list ends some time, however often the store is compacted.
		l.least = max(l.least, min(4*l.page, math.MaxInt32))
		l.page = l.least
		l.begin(Resynced, list.rewritten || errors.Is(err, rpctypes.ErrFutureRev))
		return nil, nil
	case err != nil:
		return nil, err
	case list.revision != 0 && list.cluster != resp.Header.ClusterId:
		l.begin(Resynced, true)
		return nil, nil
	}
	if list.revision == 0 {
		list.revision, list.cluster = resp.Header.Revision, resp.Header.ClusterId
		// Begun now, the watch is not overtaken by compaction while the
		// other pages are read.
		if err := l.beginWatch(list.revision + 1); err != nil {
			return nil, err
		}
	}
	events := l.fromPage(resp.Kvs)
	if resp.More {
		list.from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	} else {
		events = append(events, l.vanished()...)
		l.list, l.least = nil, 0
		l.revision.Store(list.revision)
	}
	if len(events) == 0 && resp.More {
		return nil, nil
	}
	return &Changes{Events: events, Revision: l.revision.Load(), Origin: list.origin, More: resp.More}, nil
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
	var events []*clientv3.Event
	size := 0
	for _, kv := range kvs {
		size += len(kv.Key) + len(kv.Value)
		before, ok := l.known[string(kv.Key)]
		l.known[string(kv.Key)] = knownKey{revision: kv.ModRevision, list: l.lists}
		if !ok || before.revision != kv.ModRevision || l.list.rewritten {
			events = append(events, &clientv3.Event{Type: clientv3.EventTypePut, Kv: kv})
		}
	}
	if int64(len(kvs)) == l.page {
		l.page = max(min(max(l.page*pageBytes/int64(size+1), l.page/4, minPage), l.page*4, maxPage), l.least)
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
			l.known[string(ev.Kv.Key)] = knownKey{revision: ev.Kv.ModRevision, list: l.lists}
		}
	}
}
