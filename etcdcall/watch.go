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
	"github.com/reprise-go/reprise/etcdcall/internal/watch"
)

// Watch receives the changes of a key or a range of keys: all of them, in
// order, each once, and never a part of a revision. It rides through leader
// changes, lost connections, restarts of members and expired tokens, and
// resumes after the last revision that it has received. It asks the server for
// a sign of life (see [WithWatchSilence]), so that a link which is dead without
// having broken does not stop it.
//
// It ends in one of three ways, which [Watch.Next] and [Watch.Err] tell apart:
//
//   - its context ended: the error matches the context's error and its cause;
//   - [Watch.Stop] was called: the error is [ErrStopped];
//   - it broke: the error is a [*WatchError]; or its client was closed: [ErrClosed].
//
// What was received and not read is bounded (see [WithWatchBuffer]). If the
// reader is so slow that the bound is reached, the watch is taken off the
// server and taken up again where it was when half has been read; only if that
// revision is compacted in the meantime does the watch break.
//
// The methods are safe for concurrent use. Always end a watch by its context or
// by Stop: a loop that is left does not end it.
type Watch struct {
	sub   *watch.Subscription
	until atomic.Int64

	mu   sync.Mutex
	rest *Changes // what a loop over events has left
}

// Changes are what a [Watch] or a [ListWatch] hands out at a time.
type Changes struct {
	// Events are in the order of their revisions. All events of a revision
	// come in the same Changes. The events must not be changed.
	Events []*clientv3.Event
	// Revision is the one of which everything has been handed out with these
	// Changes: a watch from Revision+1 continues without gap or repetition.
	Revision int64
	// Origin says where the events come from. It is always Watched in what a
	// Watch hands out.
	Origin Origin
	// More says that other Changes of the same list follow: only with the
	// last of them is the state that of one revision. It is always false in
	// what a Watch hands out.
	More bool
}

// NewWatch begins a watch of key, or of the range that opts make of it, such as
// clientv3.WithPrefix. clientv3.WithRev begins it at a revision. Without that
// it begins now: NewWatch makes a linearizable read of key and waits until a
// server has accepted the watch, so that every change after it returned is
// received and none that was visible before it was called.
//
// The watch lives until ctx ends. clientv3.WithFilterPut, WithFilterDelete and
// WithPrevKV do as in clientv3. With clientv3.WithProgressNotify the watch also
// hands out Changes without events, some every second, as revisions pass.
//
// w is the client of [New], or the Watcher of [Parts]; for any other Watcher
// NewWatch returns a [*ConfigurationError].
func NewWatch(ctx context.Context, w clientv3.Watcher, key string, opts ...clientv3.OpOption) (*Watch, error) {
	mux, err := muxOf(w)
	if err != nil {
		return nil, err
	}
	op, err := watchOp(key, opts)
	if err != nil {
		return nil, err
	}
	sub, err := mux.Subscribe(ctx, op)
	if err != nil {
		return nil, err
	}
	begun := &Watch{sub: sub}
	begun.until.Store(max(op.Rev()-1, 0))
	return begun, nil
}

// watchOp is clientv3.OpWatch, with an error where that panics: for options
// that make no sense in a watch.
func watchOp(key string, opts []clientv3.OpOption) (op clientv3.Op, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &reprise.ArgumentError{Func: "NewWatch", Problem: fmt.Sprint(r)}
		}
	}()
	return clientv3.OpWatch(key, opts...), nil
}

// muxOf finds the watches of this package behind w.
func muxOf(w clientv3.Watcher) (*watch.Mux, error) {
	if cli, ok := w.(*clientv3.Client); ok && cli != nil {
		w = cli.Watcher
	}
	if own, ok := w.(*watcher); ok && own != nil {
		return own.mux, nil
	}
	return nil, &ConfigurationError{Problem: "the Watcher is not one of etcdcall; take it from etcdcall.New or etcdcall.Wrap"}
}

// Next waits for changes and returns them. If ctx ends first it returns an
// error that matches ctx's, and the watch goes on. Once the watch has ended it
// returns why; if the watch broke, after what had been received before.
func (w *Watch) Next(ctx context.Context) (*Changes, error) {
	if c := w.takeRest(); c != nil {
		return c, nil
	}
	d, err := w.sub.Receive(ctx)
	if err != nil {
		return nil, err
	}
	w.until.Store(d.UpTo)
	return &Changes{Events: d.Events, Revision: d.UpTo}, nil
}

func (w *Watch) takeRest() *Changes {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.rest
	w.rest = nil
	if c == nil || w.sub.Stopped() {
		return nil
	}
	w.until.Store(c.Revision)
	return c
}

// putBack makes the events of c from the i-th on the next to be handed out.
func (w *Watch) putBack(c *Changes, i int) {
	if i == len(c.Events) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = &Changes{Events: c.Events[i:], Revision: c.Revision}
	w.until.Store(c.Events[i].GetKv().GetModRevision() - 1)
}

// All returns an iterator over what Next returns. It ends after an error, which
// it yields as its last pair, but not when the watch was stopped: then it just
// ends. Leaving the loop does not end the watch, and another loop continues it.
func (w *Watch) All() iter.Seq2[*Changes, error] {
	return iterate(func() (*Changes, error) { return w.Next(context.Background()) })
}

// Events returns an iterator over single events. It ends as that of
// [Watch.All].
func (w *Watch) Events() iter.Seq2[*clientv3.Event, error] {
	return single(w.All(), w.putBack)
}

// iterate yields what next returns until it returns an error.
func iterate(next func() (*Changes, error)) iter.Seq2[*Changes, error] {
	return func(yield func(*Changes, error) bool) {
		for {
			c, err := next()
			if errors.Is(err, ErrStopped) || !yield(c, err) || err != nil {
				return
			}
		}
	}
}

// single yields the events of all one by one. Those that a loop leaves behind
// are put back, from the i-th of c on.
func single(all iter.Seq2[*Changes, error], putBack func(c *Changes, i int)) iter.Seq2[*clientv3.Event, error] {
	return func(yield func(*clientv3.Event, error) bool) {
		for c, err := range all {
			if err != nil {
				yield(nil, err)
				return
			}
			for i, ev := range c.Events {
				if !yield(ev, nil) {
					putBack(c, i+1)
					return
				}
			}
		}
	}
}

// Stop ends the watch. What was received and not read is dropped. Stopping
// again, or a watch that has ended, does nothing.
func (w *Watch) Stop() { w.sub.Stop(ErrStopped) }

// Err returns why the watch ended, and nil as long as it has not.
func (w *Watch) Err() error { return w.sub.Err() }

// Revision returns the revision of which everything has been handed out. A
// watch from the next one continues this one.
func (w *Watch) Revision() int64 { return w.until.Load() }

// Heard returns when the server was last heard on the watch's connection. Of
// changes that were made before, all but those under way have been received;
// a Heard that lies further back than the time of [WithWatchSilence] means that
// the watch is trying to find a server.
func (w *Watch) Heard() time.Time { return w.sub.Heard() }
