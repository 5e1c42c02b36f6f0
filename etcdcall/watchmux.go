package etcdcall

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/internal/ending"
)

// watchMux holds all watches of one client. Watches whose contexts carry the
// same outgoing metadata share a gRPC stream.
type watchMux struct {
	watchSettings
	remote pb.WatchClient
	// read makes a linearizable read of one key, with retries.
	read func(ctx context.Context, key string) (*pb.ResponseHeader, error)
	grpc []grpc.CallOption

	// serial is set when a server was met that numbers the watches itself,
	// as etcd's gRPC proxy does. They are created one after another then.
	serial atomic.Bool
	alone  atomic.Int64 // numbers streams that are not shared

	closing chan struct{} // closed by close

	mu      sync.Mutex
	streams map[streamKey]*watchStream
	closed  bool
	running sync.WaitGroup
}

// watchSettings are what options say of watches.
type watchSettings struct {
	backoff reprise.Backoff
	// patience is how long a refused token is taken for one that will be
	// accepted after a refresh.
	patience  time.Duration
	silence   time.Duration
	buffer    int
	anyLeader bool
}

// streamKey says which watches may share a stream.
type streamKey struct {
	metadata string
	// alone is not zero for a stream of one watch that waits for a revision
	// of the future: until that comes, the server answers no request for
	// progress on its stream.
	alone int64
}

func newWatchMux(remote pb.WatchClient, s watchSettings, callOpts []grpc.CallOption,
	read func(ctx context.Context, key string) (*pb.ResponseHeader, error),
) *watchMux {
	return &watchMux{
		watchSettings: s,
		remote:        remote,
		read:          read,
		grpc:          callOpts,
		closing:       make(chan struct{}),
		streams:       make(map[streamKey]*watchStream),
	}
}

// subscribe begins a watch. If it is to begin now, subscribe returns when the
// server has accepted it: changes that are made after that are received.
func (m *watchMux) subscribe(ctx context.Context, op clientv3.Op) (*subscription, error) {
	sub := newSubscription(ctx, op, m.buffer)
	now := sub.next == 0
	if now {
		header, err := m.read(m.led(ctx), string(sub.key))
		if err != nil {
			if ctx.Err() != nil {
				err = ending.OfContext(ctx)
			}
			return nil, err
		}
		sub.fresh = true
		sub.next, sub.seen, sub.cluster = header.GetRevision()+1, header.GetRevision(), header.GetClusterId()
	}
	if !m.attach(sub, 0) {
		return nil, ErrClosed
	}
	sub.hook()
	if !now {
		return sub, nil
	}
	select {
	case <-sub.started:
		return sub, nil
	case <-sub.done:
		return nil, sub.ended()
	}
}

// attach puts sub on a stream, and reports whether the mux is open.
func (m *watchMux) attach(sub *subscription, alone int64) bool {
	ctx := m.led(sub.ctx)
	md, _ := metadata.FromOutgoingContext(ctx)
	key := streamKey{metadata: fmt.Sprint(map[string][]string(md)), alone: alone}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	s := m.streams[key]
	if s == nil {
		s = newWatchStream(context.WithoutCancel(ctx), m, key)
		m.streams[key] = s
		m.running.Go(s.run)
	}
	s.add(sub)
	return true
}

// retire ends the stream s if no watch is left on it.
func (m *watchMux) retire(s *watchStream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.empty() {
		m.forget(s)
		s.cancel()
	}
}

func (m *watchMux) forget(s *watchStream) {
	if m.streams[s.key] == s {
		delete(m.streams, s.key)
	}
}

// requestProgress asks for the progress of all watches that share the stream of
// ctx. Without any it does nothing.
func (m *watchMux) requestProgress(ctx context.Context) error {
	md, _ := metadata.FromOutgoingContext(m.led(ctx))
	want := fmt.Sprint(map[string][]string(md))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	for key, s := range m.streams {
		if key.metadata == want {
			s.requestProgress()
		}
	}
	return ctx.Err()
}

// close ends all watches and waits until nothing of them is left running.
func (m *watchMux) close() {
	m.mu.Lock()
	m.closed = true
	close(m.closing)
	var open []*watchStream
	for _, s := range m.streams {
		open = append(open, s)
	}
	m.mu.Unlock()
	for _, s := range open {
		s.endAll(func(*subscription) error { return ErrClosed })
		s.cancel()
	}
	m.running.Wait()
}

// led returns a context that asks the server to end the call when it knows of
// no leader.
func (m *watchMux) led(ctx context.Context) context.Context {
	if m.anyLeader {
		return ctx
	}
	return clientv3.WithRequireLeader(ctx)
}

// resumption is the Retryer of a stream. Its pauses begin small again after
// every stream that worked.
type resumption struct {
	stream  *watchStream
	backoff reprise.Backoff
}

// Retry implements reprise.Retryer.
func (r *resumption) Retry(err error) (time.Duration, bool) {
	if !resumable(err) {
		return 0, false
	}
	if r.stream.takeWorked() {
		r.backoff.Reset()
	}
	return r.backoff.Pause(), true
}
