package etcdcall

import (
	"context"
	"errors"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall/internal/watch"
)

// watcher is the clientv3.Watcher of this package.
type watcher struct {
	mux   *watch.Mux
	close func()
}

func newWatcher(m *watch.Mux) *watcher {
	return &watcher{mux: m, close: sync.OnceFunc(func() { m.Close(ErrClosed) })}
}

// Watch implements clientv3.Watcher. It differs from clientv3's in this: it
// ends neither for want of a leader nor because a token expired; the last
// response of a watch that broke waits for its reader; and what waits for a
// slow reader is bounded.
func (w *watcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	out := make(chan clientv3.WatchResponse, 1)
	op, err := watchOp(key, opts)
	var sub *watch.Subscription
	if err == nil {
		sub, err = w.mux.Subscribe(ctx, op)
	}
	if err != nil {
		if last, ok := lastResponse(ctx, err); ok {
			out <- last
		}
		close(out)
		return out
	}
	if op.Rev() > 0 {
		// clientv3 returns when the server has accepted the watch, too.
		sub.Await()
	}
	w.mux.Go(func() { w.pump(ctx, sub, out) })
	return out
}

// pump hands on what sub receives.
func (w *watcher) pump(ctx context.Context, sub *watch.Subscription, out chan<- clientv3.WatchResponse) {
	defer close(out)
	for {
		d, err := sub.Receive(context.Background())
		if err != nil {
			if last, ok := lastResponse(ctx, err); ok {
				select {
				case out <- last:
				case <-ctx.Done():
				case <-w.mux.Closing():
				}
			}
			return
		}
		select {
		case out <- clientv3.WatchResponse{Header: d.Header, Events: d.Events, Created: d.Created}:
		case <-ctx.Done():
			return
		case <-w.mux.Closing():
			return
		}
	}
}

// lastResponse is what tells the reader of a channel why it closes. A watch
// whose context ended or whose client was closed ends without.
func lastResponse(ctx context.Context, err error) (clientv3.WatchResponse, bool) {
	if ctx.Err() != nil || errors.Is(err, ErrClosed) {
		return clientv3.WatchResponse{}, false
	}
	resp := clientv3.WatchResponse{Header: &pb.ResponseHeader{}, Canceled: true}
	if broken, ok := errors.AsType[*WatchError](err); ok {
		switch broken.Reason {
		case WatchCompacted:
			resp.CompactRevision = broken.CompactRevision
			return resp, true
		case WatchRefused:
			err = broken.Err
		}
	}
	resp.CancelReason = rpctypes.ErrorDesc(err)
	return resp, true
}

// RequestProgress implements clientv3.Watcher.
func (w *watcher) RequestProgress(ctx context.Context) error {
	return w.mux.RequestProgress(ctx)
}

// Close implements clientv3.Watcher. It ends all watches, and the channels of
// their readers close.
func (w *watcher) Close() error {
	w.close()
	return nil
}
