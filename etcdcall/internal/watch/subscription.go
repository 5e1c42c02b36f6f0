package watch

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall/internal/ending"
)

// Subscription is one watch: what it asks for, how far it has come, and what it
// has received that nobody has read yet.
type Subscription struct {
	ctx      context.Context //nolint:containedctx // the life of the watch
	key, end []byte
	filters  []pb.WatchCreateRequest_FilterType
	prevKV   bool
	created  bool // the reader wants to hear of the first creation
	progress bool // the reader wants to hear of progress

	started chan struct{} // closed when the server has accepted the watch once
	done    chan struct{} // closed when it has ended

	stream atomic.Pointer[stream]

	// The stream that the watch is on guards these.
	asked    bool  // an answer of the server to the creation is due
	id       int64 // on the current gRPC stream; 0 if none
	next     int64 // the revision to resume at
	seen     int64 // the highest revision known to be in the store
	cluster  uint64
	doubts   int  // servers met that were behind seen, while that is being verified
	fresh    bool // the watch begins now and no server has accepted it yet
	unproved bool // progress up to bound may be older than the watch
	bound    int64
	refused  time.Time // since when the token is refused
	part     []*clientv3.Event

	mu      sync.Mutex
	queue   []Delivery
	size    int // bytes in queue
	limit   int
	parked  bool // taken off the server until the queue is shorter
	err     error
	dropped bool        // the reader wants no more
	unhook  func() bool // parts the watch from its context
	ready   chan struct{}
}

// Delivery is what a Subscription hands out at a time.
type Delivery struct {
	Header *pb.ResponseHeader
	Events []*clientv3.Event
	// UpTo is the revision of which everything has been handed out.
	UpTo int64
	// Created says that the server has accepted the watch for the first time.
	Created bool

	size int
}

func newSubscription(ctx context.Context, op clientv3.Op, limit int) *Subscription {
	sub := &Subscription{
		ctx:      ctx,
		key:      op.KeyBytes(),
		end:      op.RangeBytes(),
		next:     max(op.Rev(), 0),
		prevKV:   op.IsPrevKV(),
		created:  op.IsCreatedNotify(),
		progress: op.IsProgressNotify(),
		started:  make(chan struct{}),
		done:     make(chan struct{}),
		limit:    limit,
		ready:    make(chan struct{}, 1),
	}
	if op.IsFilterPut() {
		sub.filters = append(sub.filters, pb.WatchCreateRequest_NOPUT)
	}
	if op.IsFilterDelete() {
		sub.filters = append(sub.filters, pb.WatchCreateRequest_NODELETE)
	}
	return sub
}

// Receive returns what comes next, in order. When the watch has broken it
// returns what came before first, and then the error; when its context ended or
// it was stopped, the error at once.
func (q *Subscription) Receive(ctx context.Context) (Delivery, error) {
	for {
		d, ok, err := q.pop()
		if ok || err != nil {
			return d, err
		}
		select {
		case <-q.ready:
		case <-q.done:
		case <-ctx.Done():
			return Delivery{}, ending.OfContext(ctx)
		}
	}
}

func (q *Subscription) pop() (d Delivery, ok bool, err error) {
	q.mu.Lock()
	if len(q.queue) == 0 {
		defer q.mu.Unlock()
		return d, false, q.err
	}
	d = q.queue[0]
	q.queue[0] = Delivery{}
	if q.queue = q.queue[1:]; len(q.queue) > 0 {
		q.signal()
	}
	q.size -= d.size
	unpark := q.parked && q.size <= q.limit/2
	q.parked = q.parked && !unpark
	q.mu.Unlock()
	if unpark {
		q.stream.Load().unpark(q)
	}
	return d, true, nil
}

// push queues d, and reports whether the queue is full then. A full queue takes
// no more before it is half empty; the caller takes the watch off the server.
func (q *Subscription) push(d Delivery) (full bool) {
	for _, ev := range d.Events {
		d.size += eventSize(ev)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return false
	}
	if last := len(q.queue) - 1; last >= 0 && len(d.Events) == 0 && !d.Created && len(q.queue[last].Events) == 0 && !q.queue[last].Created {
		q.queue[last] = d // later progress says all that earlier progress did
		return false
	}
	q.queue = append(q.queue, d)
	q.size += d.size
	q.parked = q.parked || q.size > q.limit
	q.signal()
	return q.parked
}

// signal wakes a reader. The caller holds q.mu.
func (q *Subscription) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// finish ends the watch with err, unless it has ended already. Unless kept,
// what nobody has read is dropped.
func (q *Subscription) finish(err error, keep bool) {
	q.mu.Lock()
	unhook := q.unhook
	if !keep {
		q.queue, q.size, q.dropped = nil, 0, true
	}
	if q.err == nil {
		q.err = err
		close(q.done)
	}
	q.mu.Unlock()
	if unhook != nil {
		unhook()
	}
}

// hook makes the watch end with its context.
func (q *Subscription) hook() {
	unhook := context.AfterFunc(q.ctx, func() { q.Stop(ending.OfContext(q.ctx)) })
	q.mu.Lock()
	q.unhook = unhook
	ended := q.err != nil
	q.mu.Unlock()
	if ended {
		unhook()
	}
}

// Await waits until the server has accepted the watch for the first time, or the
// watch has ended.
func (q *Subscription) Await() {
	select {
	case <-q.started:
	case <-q.done:
	}
}

// Stop ends the watch with the error why, because its reader wants no more. What
// nobody has read is dropped.
func (q *Subscription) Stop(why error) {
	q.finish(why, false)
	q.stream.Load().remove(q)
}

// Stopped reports whether the reader wants no more, or the context has ended.
func (q *Subscription) Stopped() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

func (q *Subscription) isParked() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.parked
}

// Err returns why the watch ended, nil if it has not.
func (q *Subscription) Err() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// Heard returns when the server was last heard on the stream of the watch.
func (q *Subscription) Heard() time.Time { return time.Unix(0, q.stream.Load().heard.Load()) }

// Silence is after how long without a sign of life the watch leaves its server.
func (q *Subscription) Silence() time.Duration { return q.stream.Load().mux.cfg.Silence }

// eventOverhead is what an event takes in memory besides its bytes, roughly.
const eventOverhead = 256

func eventSize(ev *clientv3.Event) int {
	n := eventOverhead + len(ev.GetKv().GetKey()) + len(ev.GetKv().GetValue())
	if prev := ev.GetPrevKv(); prev != nil {
		n += len(prev.Key) + len(prev.Value)
	}
	return n
}
