package etcdcall

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/internal/watch"
)

const (
	// DefaultWatchSilence is the default of [WithWatchSilence].
	DefaultWatchSilence = 4 * time.Second
	// DefaultWatchBuffer is the default of [WithWatchBuffer].
	DefaultWatchBuffer = 8 << 20
)

// WithWatchSilence sets after how long without a sign of life from its server a
// watch looks for another one, by default [DefaultWatchSilence]. Each stream
// asks the server four times as often, which costs one small message each way
// and renews the revision that the watch would resume at. It should be longer
// than any message takes that the link must carry; values under 10 ms, and zero,
// stand for the default.
func WithWatchSilence(d time.Duration) Option {
	return func(s *settings) { s.watchSilence = d }
}

// WithWatchBuffer sets how many bytes of events a watch keeps for a reader that
// is slower than the changes come, by default [DefaultWatchBuffer]. A watch may
// exceed it by one response of the server, and then receives no more before the
// reader has read half. Values below 1 stand for the default.
func WithWatchBuffer(bytes int) Option {
	return func(s *settings) { s.watchBuffer = bytes }
}

// watch are the parts of a watch.Config that options decide, and how errors are seen.
func (s *settings) watch() watch.Config {
	w := watch.Config{
		Resumable: resumable,
		Broken:    brokenWatch,
		Backoff:   reprise.Backoff{Initial: 10 * time.Millisecond, Max: s.backoff.Max, Multiplier: 2},
		Patience:  s.maxElapsed,
		Silence:   s.watchSilence,
		Buffer:    s.watchBuffer,
		AnyLeader: s.anyLeader,
	}
	if w.Silence < 10*time.Millisecond {
		w.Silence = DefaultWatchSilence
	}
	if w.Buffer < 1 {
		w.Buffer = DefaultWatchBuffer
	}
	return w
}

// newPolicyWatcher returns the Watcher of a client.
func newPolicyWatcher(p *policy, conn grpc.ClientConnInterface, kv clientv3.KV) *watcher {
	cfg := p.watch()
	cfg.Remote, cfg.CallOptions = pb.NewWatchClient(conn), p.grpc
	cfg.Read = func(ctx context.Context, key string) (*pb.ResponseHeader, error) {
		resp, err := kv.Get(ctx, key, clientv3.WithKeysOnly())
		if err != nil {
			return nil, err
		}
		return resp.Header, nil
	}
	return newWatcher(watch.New(cfg))
}
