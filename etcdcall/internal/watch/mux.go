package watch

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

// Mux holds all watches of one client. Watches whose contexts carry the
// same outgoing metadata share a gRPC stream.
type Mux struct {
	cfg Config

	// serial is set when a server was met that numbers the watches itself,
	// as etcd's gRPC proxy does. They are created one after another then.
	serial atomic.Bool
	alone  atomic.Int64 // numbers streams that are not shared

	closing chan struct{} // closed by Close

	mu      sync.Mutex
	streams map[streamKey]*stream
	closed  error // what Close was given
	running sync.WaitGroup
}

// Config is what a Mux works with. Only CallOptions, Patience and AnyLeader may be
// left out.
type Config struct {
	Remote      pb.WatchClient
	CallOptions []grpc.CallOption
	// Read makes a linearizable read of one key, with retries.
	Read func(ctx context.Context, key string) (*pb.ResponseHeader, error)
	// Resumable reports whether another stream may be opened after one that
	// ended with err.
	Resumable func(err error) bool
	// Broken makes the error of a watch that broke.
	Broken func(Break) error
	// Backoff has the pauses before a stream is opened again.
	Backoff reprise.Backoff
	// Patience is how long a refused token is taken for one that will be
	// accepted after a refresh.
	Patience time.Duration
	// Silence is after how long without a sign of life a server is left.
	Silence time.Duration
	// Buffer is how many bytes of events a watch keeps for its reader.
	Buffer int
	// AnyLeader says that a server need not know of a leader.
	AnyLeader bool
}

// streamKey says which watches may share a stream.
type streamKey struct {
	metadata string
	// alone is not zero for a stream of one watch that waits for a revision
	// of the future: until that comes, the server answers no request for
	// progress on its stream.
	alone int64
}

// New returns a Mux without watches.
func New(cfg Config) *Mux {
	return &Mux{cfg: cfg, closing: make(chan struct{}), streams: make(map[streamKey]*stream)}
}

// Subscribe begins a watch, which lives until ctx ends. If it is to begin now,
// Subscribe returns when the server has accepted it: changes that are made after
// that are received.
func (m *Mux) Subscribe(ctx context.Context, op clientv3.Op) (*Subscription, error) {
	sub := newSubscription(ctx, op, m.cfg.Buffer)
	now := sub.next == 0
	if now {
		header, err := m.cfg.Read(m.led(ctx), string(sub.key))
		if err != nil {
			if ctx.Err() != nil {
				err = ending.OfContext(ctx)
			}
			return nil, err
		}
		sub.fresh = true
		sub.next, sub.seen, sub.cluster = header.GetRevision()+1, header.GetRevision(), header.GetClusterId()
	}
	if err := m.attach(sub, 0); err != nil {
		return nil, err
	}
	sub.hook()
	if !now {
		return sub, nil
	}
	select {
	case <-sub.started:
		return sub, nil
	case <-sub.done:
		return nil, sub.Err()
	}
}

// attach puts sub on a stream, unless the mux is closed.
func (m *Mux) attach(sub *Subscription, alone int64) error {
	ctx := m.led(sub.ctx)
	md, _ := metadata.FromOutgoingContext(ctx)
	key := streamKey{metadata: fmt.Sprint(map[string][]string(md)), alone: alone}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed != nil {
		return m.closed
	}
	s := m.streams[key]
	if s == nil {
		s = newStream(context.WithoutCancel(ctx), m, key)
		m.streams[key] = s
		m.running.Go(s.run)
	}
	s.add(sub)
	return nil
}

// retire ends the stream s if no watch is left on it.
func (m *Mux) retire(s *stream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.empty() {
		m.forget(s)
		s.cancel()
	}
}

func (m *Mux) forget(s *stream) {
	if m.streams[s.key] == s {
		delete(m.streams, s.key)
	}
}

// RequestProgress asks for the progress of all watches that share the stream of
// ctx. Without any it does nothing.
func (m *Mux) RequestProgress(ctx context.Context) error {
	md, _ := metadata.FromOutgoingContext(m.led(ctx))
	want := fmt.Sprint(map[string][]string(md))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed != nil {
		return m.closed
	}
	for key, s := range m.streams {
		if key.metadata == want {
			s.requestProgress()
		}
	}
	return ctx.Err()
}

// Go runs f, for which Close waits.
func (m *Mux) Go(f func()) { m.running.Go(f) }

// Closing returns a channel that is closed when Close is called.
func (m *Mux) Closing() <-chan struct{} { return m.closing }

// Close ends all watches with the error why and waits until nothing of them is
// left running. It must be called once.
func (m *Mux) Close(why error) {
	m.mu.Lock()
	m.closed = why
	close(m.closing)
	var open []*stream
	for _, s := range m.streams {
		open = append(open, s)
	}
	m.mu.Unlock()
	for _, s := range open {
		s.endAll(func(*Subscription) error { return why })
		s.cancel()
	}
	m.running.Wait()
}

// led returns a context that asks the server to end the call when it knows of
// no leader.
func (m *Mux) led(ctx context.Context) context.Context {
	if m.cfg.AnyLeader {
		return ctx
	}
	return clientv3.WithRequireLeader(ctx)
}

// resumption is the Retryer of a stream. Its pauses begin small again after
// every stream that worked.
type resumption struct {
	stream  *stream
	backoff reprise.Backoff
}

// Retry implements reprise.Retryer.
func (r *resumption) Retry(err error) (time.Duration, bool) {
	if !r.stream.mux.cfg.Resumable(err) {
		return 0, false
	}
	if r.stream.takeWorked() {
		r.backoff.Reset()
	}
	return r.backoff.Pause(), true
}
