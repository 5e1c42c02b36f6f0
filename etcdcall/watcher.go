package etcdcall

import (
	"context"
	"errors"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// watcher is the clientv3.Watcher of this package.
type watcher struct {
	mux   *watchMux
	close func()
}

func newWatcher(m *watchMux) *watcher {
	return &watcher{mux: m, close: sync.OnceFunc(m.close)}
}

// Watch implements clientv3.Watcher. It differs from clientv3's in this: it
// ends neither for want of a leader nor because a token expired; the last
// response of a watch that broke waits for its reader; and what waits for a
// slow reader is bounded.
func (w *watcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	out := make(chan clientv3.WatchResponse, 1)
	op, err := watchOp(key, opts)
	var sub *subscription
	if err == nil {
		sub, err = w.mux.subscribe(ctx, op)
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
		select {
		case <-sub.started:
		case <-sub.done:
		}
	}
	w.mux.running.Go(func() { w.pump(ctx, sub, out) })
	return out
}

// pump hands on what sub receives.
func (w *watcher) pump(ctx context.Context, sub *subscription, out chan<- clientv3.WatchResponse) {
	defer close(out)
	for {
		d, err := sub.receive(context.Background())
		if err != nil {
			if last, ok := lastResponse(ctx, err); ok {
				select {
				case out <- last:
				case <-ctx.Done():
				case <-w.mux.closing:
				}
			}
			return
		}
		select {
		case out <- clientv3.WatchResponse{Header: d.header, Events: d.events, Created: d.created}:
		case <-ctx.Done():
			return
		case <-w.mux.closing:
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
	return w.mux.requestProgress(ctx)
}

// Close implements clientv3.Watcher. It ends all watches, and the channels of
// their readers close.
func (w *watcher) Close() error {
	w.close()
	return nil
}
