package etcdcall

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/internal/ending"
)

// ListWatch hands out what a range of keys holds and then how it changes, for
// ever: whoever applies its events to an empty map has a copy of the range. It
// rides through what a [Watch] rides through, and also through compaction and
// through the restore of a backup: it then reads the range anew and hands out
// the difference to what it has handed out before, as events whose [Origin] is
// [Resynced].
//
// A list is read in parts of some megabytes, all at one revision: the first as a
// page, the others from a stream where the server has RangeStream (etcd 3.7),
// else as pages. While it watches it holds each key with its revision, but no
// values.
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

	reading   sync.Mutex // held by Next
	before    int64      // the revision before what was handed out last
	known     map[string]knownKey
	list      *listing     // nil while watching
	watch     *Watch       // that of the last list; nil before the first page
	rest      *Changes     // what a loop over events has left
	page      int64        // how many keys to ask for at a time
	least     int64        // page is no smaller, because smaller ones were overtaken
	lists     uint64       // how many have begun
	noStreams *atomic.Bool // the server has no RangeStream
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
	if op.Rev() != 0 || op.IsFilterPut() || op.IsFilterDelete() || op.IsKeysOnly() { // others are refused by watchOp
		return nil, &reprise.ArgumentError{Func: "NewListWatch", Problem: "an option selects or orders what is read"}
	}
	l := &ListWatch{
		kv: kv, watcher: w, key: string(op.KeyBytes()), end: string(op.RangeBytes()), prevKV: op.IsPrevKV(),
		known: make(map[string]knownKey), page: firstPage, noStreams: streamsOf(kv),
	}
	l.ctx, l.stop = context.WithCancelCause(ctx)
	l.begin(Listed, false)
	return l, nil
}

// Next returns the next changes: parts of the first list, and then what
// changes. If ctx ends first it returns an error that matches ctx's; the next
// Next continues.
func (l *ListWatch) Next(ctx context.Context) (*Changes, error) {
	l.reading.Lock()
	defer l.reading.Unlock()
	l.before = l.revision.Load()
	// Calls without a deadline would give up after a while.
	ctx, cancel := context.WithTimeout(ctx, forever)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	for {
		if err := l.Err(); err != nil {
			return nil, err
		}
		if c := l.rest; c != nil {
			l.rest = nil
			l.revision.Store(c.Revision)
			return c, nil
		}
		c, err := l.step(ctx)
		if err != nil && l.Err() != nil {
			return nil, l.Err()
		}
		if err != nil && ctx.Err() != nil {
			return nil, ending.OfContext(ctx)
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
		return l.readList(ctx)
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
	return single(l.All(), l.putBack)
}

// putBack makes the events of c from the i-th on the next to be handed out.
func (l *ListWatch) putBack(c *Changes, i int) {
	l.reading.Lock()
	defer l.reading.Unlock()
	rest := *c
	rest.Events = c.Events[i:]
	l.rest = &rest
	switch {
	case i == len(c.Events):
	case c.Origin == Watched:
		l.revision.Store(rest.Events[0].Kv.ModRevision - 1)
	default:
		l.revision.Store(l.before)
	}
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
	return ending.OfContext(l.ctx)
}

// Revision returns the revision of which everything has been handed out. It is
// 0 before the first list is complete.
func (l *ListWatch) Revision() int64 { return l.revision.Load() }
