package watch

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/internal/ending"
)

// stream keeps one gRPC stream open for the watches on it. When the stream
// breaks, or nothing is heard on it for too long, it opens another and takes
// all watches up again where they were.
//
// All watches are created at once, without waiting for the answers in between:
// they come in the order of the requests, each with the number that the client
// chose for the watch.
type stream struct {
	mux    *Mux
	key    streamKey
	ctx    context.Context //nolint:containedctx // the life of the stream
	cancel context.CancelFunc
	heard  atomic.Int64 // when the server was heard last, Unix time in ns

	mu      sync.Mutex
	subs    map[*Subscription]struct{}
	live    bool                    // a gRPC stream is open
	worked  bool                    // the server has answered on it
	byID    map[int64]*Subscription // those that the server has accepted
	asked   []creation              // in the order of the answers to come
	waiting []creation              // not sent yet, because the server is serial
	lastID  int64
	out     []*pb.WatchRequest
	wake    chan struct{}

	progressAsked int // since the stream was opened, the answered ones excluded
	progressOwed  int // answers to hand on to readers, who asked for them
}

// creation is a request that the server will answer with Created: for a watch
// or, without one, for a sign of life.
type creation struct {
	sub *Subscription
	id  int64
}

func newStream(ctx context.Context, m *Mux, key streamKey) *stream {
	s := &stream{mux: m, key: key, subs: make(map[*Subscription]struct{}), wake: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// run keeps the stream open until no watch is left on it or it cannot be
// resumed.
func (s *stream) run() {
	err := reprise.Invoke(s.ctx, s.serve, reprise.WithRetry(func() reprise.Retryer {
		return &resumption{stream: s, backoff: s.mux.cfg.Backoff}
	}))
	s.mux.mu.Lock()
	s.mux.forget(s)
	s.mux.mu.Unlock()
	s.cancel()
	s.endAll(func(sub *Subscription) error {
		return s.mux.cfg.Broken(Break{Reason: Refused, Revision: sub.complete(), Err: err})
	})
}

// serve opens one gRPC stream and handles what arrives until it ends. It always
// returns an error.
//
// The stream is opened under the context of s and not of the attempt, since to
// the server it is no repetition of a call.
func (s *stream) serve(context.Context, reprise.CallSettings) error {
	ctx, cancel := context.WithCancelCause(s.ctx)
	alarm := s.watchForSilence(ctx, func() { cancel(ending.ErrSilent) })
	var sender sync.WaitGroup
	defer func() {
		s.close()
		cancel(nil)
		alarm.stop()
		sender.Wait()
	}()
	rpc, err := s.mux.cfg.Remote.Watch(ctx, s.mux.cfg.CallOptions...)
	if err != nil {
		return ending.OfStream(ctx, err)
	}
	s.open()
	sender.Go(func() { s.send(ctx, rpc) })
	for {
		resp, err := rpc.Recv()
		if err != nil {
			return ending.OfStream(ctx, err)
		}
		s.heard.Store(time.Now().UnixNano())
		if err := s.handle(resp); err != nil {
			return err
		}
	}
}

// open registers all watches on the gRPC stream that was just opened.
func (s *stream) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live, s.worked = true, false
	s.byID = make(map[int64]*Subscription, len(s.subs))
	s.asked, s.waiting, s.out = nil, nil, nil
	s.progressAsked = 0
	for sub := range s.subs {
		s.takeUp(sub)
	}
}

// close notes that no gRPC stream is open.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = false
	for sub := range s.subs {
		sub.id, sub.asked, sub.part = 0, false, nil
	}
	s.byID = nil
}

// takeWorked reports whether the server has answered on the last gRPC stream.
func (s *stream) takeWorked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	worked := s.worked
	s.worked = false
	return worked
}

func (s *stream) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.subs) == 0
}

// add puts sub on the stream.
func (s *stream) add(sub *Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.stream.Store(s)
	s.subs[sub] = struct{}{}
	s.takeUp(sub)
}

// remove takes sub off the stream, which ends if it was the last.
func (s *stream) remove(sub *Subscription) {
	s.mu.Lock()
	_, here := s.subs[sub]
	delete(s.subs, sub)
	s.drop(sub)
	last := here && len(s.subs) == 0
	s.mu.Unlock()
	if last {
		s.mux.retire(s)
	}
}

// unpark takes up a watch again whose queue was full.
func (s *stream) unpark(sub *Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.subs[sub]; ok {
		s.takeUp(sub)
	}
}

// endAll ends all watches with the errors that why returns.
func (s *stream) endAll(why func(*Subscription) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.subs {
		delete(s.subs, sub)
		sub.finish(why(sub), true)
	}
}

// requestProgress asks for the progress of all watches, on behalf of a reader.
// Answers that are under way already may be older than the question, so as many
// more are handed on.
func (s *stream) requestProgress() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.askProgress()
	s.progressOwed = s.progressAsked
}

// The methods below are called with s.mu held.

// takeUp asks the server for sub, unless that has been done or its queue is
// full.
func (s *stream) takeUp(sub *Subscription) {
	if !s.live || sub.asked || sub.id != 0 || sub.isParked() {
		return
	}
	sub.asked = true
	s.lastID++
	c := creation{sub: sub, id: s.lastID}
	if s.mux.serial.Load() && len(s.asked) > 0 {
		s.waiting = append(s.waiting, c)
		return
	}
	s.ask(c)
}

func (s *stream) ask(c creation) {
	sub := c.sub
	req := &pb.WatchCreateRequest{
		Key: sub.key, RangeEnd: sub.end, StartRevision: sub.next, Filters: sub.filters, PrevKv: sub.prevKV,
		ProgressNotify: sub.progress, Fragment: true, WatchId: c.id,
	}
	if sub.fresh {
		// Begin where the server is, which costs it no search of its
		// history, and drop what is older than sub.next.
		req.StartRevision = 0
	}
	sub.unproved = s.progressAsked > 0
	s.asked = append(s.asked, c)
	s.put(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: req}})
}

// askNext asks for a watch that waited for its turn.
func (s *stream) askNext() {
	for len(s.waiting) > 0 && len(s.asked) == 0 {
		c := s.waiting[0]
		s.waiting = s.waiting[1:]
		if _, ok := s.subs[c.sub]; ok {
			s.ask(c)
		}
	}
}

// drop takes sub off the server.
func (s *stream) drop(sub *Subscription) {
	if sub.id == 0 || s.byID[sub.id] != sub {
		return
	}
	s.discard(sub.id)
	sub.id, sub.part = 0, nil
}

// discard cancels the watch of that number.
func (s *stream) discard(id int64) {
	delete(s.byID, id)
	s.put(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
		CancelRequest: &pb.WatchCancelRequest{WatchId: id},
	}})
}

func (s *stream) askProgress() {
	if !s.live || len(s.byID) == 0 || s.mux.serial.Load() {
		return // etcd's gRPC proxy knows no such request
	}
	s.progressAsked++
	s.put(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{
		ProgressRequest: &pb.WatchProgressRequest{},
	}})
}

// askSign asks for a sign of life, which a server gives even while it answers
// no request for progress because some watch lags: it refuses a watch on an
// empty range that begins at a negative revision. (Releases differ in which of
// the two they refuse.)
func (s *stream) askSign() {
	s.asked = append(s.asked, creation{})
	s.put(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: signKey, RangeEnd: signKey, StartRevision: -1, WatchId: clientv3.InvalidWatchID},
	}})
}

var signKey = []byte{1}

func (s *stream) put(req *pb.WatchRequest) {
	s.out = append(s.out, req)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
