package etcdcall

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall/internal/ending"
)

// subscription is one watch: what it asks for, how far it has come, and what it
// has received that nobody has read yet.
type subscription struct {
	ctx      context.Context //nolint:containedctx // the life of the watch
	key, end []byte
	filters  []pb.WatchCreateRequest_FilterType
	prevKV   bool
	created  bool // the reader wants to hear of the first creation
	progress bool // the reader wants to hear of progress

	started chan struct{} // closed when the server has accepted the watch once
	done    chan struct{} // closed when it has ended

	stream atomic.Pointer[watchStream]

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
	queue   []delivery
	size    int // bytes in queue
	limit   int
	parked  bool // taken off the server until the queue is shorter
	err     error
	dropped bool        // the reader wants no more
	unhook  func() bool // parts the watch from its context
	ready   chan struct{}
}

// delivery is what a subscription hands out at a time.
type delivery struct {
	header *pb.ResponseHeader
	events []*clientv3.Event
	// upTo is the revision of which everything has been handed out.
	upTo    int64
	created bool
	size    int
}

func newSubscription(ctx context.Context, op clientv3.Op, limit int) *subscription {
	sub := &subscription{
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

// receive returns what comes next, in order. When the watch has broken it
// returns what came before first, and then the error; when its context ended or
// it was stopped, the error at once.
func (q *subscription) receive(ctx context.Context) (delivery, error) {
	for {
		d, ok, err := q.pop()
		if ok || err != nil {
			return d, err
		}
		select {
		case <-q.ready:
		case <-q.done:
		case <-ctx.Done():
			return delivery{}, ending.OfContext(ctx)
		}
	}
}

func (q *subscription) pop() (d delivery, ok bool, err error) {
	q.mu.Lock()
	if len(q.queue) == 0 {
		defer q.mu.Unlock()
		return d, false, q.err
	}
	d = q.queue[0]
	q.queue[0] = delivery{}
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
func (q *subscription) push(d delivery) (full bool) {
	for _, ev := range d.events {
		d.size += eventSize(ev)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return false
	}
	if last := len(q.queue) - 1; last >= 0 && len(d.events) == 0 && !d.created && len(q.queue[last].events) == 0 && !q.queue[last].created {
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
func (q *subscription) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// finish ends the watch with err, unless it has ended already. Unless kept,
// what nobody has read is dropped.
func (q *subscription) finish(err error, keep bool) {
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
func (q *subscription) hook() {
	unhook := context.AfterFunc(q.ctx, func() { q.leave(ending.OfContext(q.ctx)) })
	q.mu.Lock()
	q.unhook = unhook
	ended := q.err != nil
	q.mu.Unlock()
	if ended {
		unhook()
	}
}

// leave ends the watch because its reader wants no more.
func (q *subscription) leave(err error) {
	q.finish(err, false)
	q.stream.Load().remove(q)
}

func (q *subscription) abandoned() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

func (q *subscription) isParked() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.parked
}

// ended returns why the watch ended, nil if it has not.
func (q *subscription) ended() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// eventOverhead is what an event takes in memory besides its bytes, roughly.
const eventOverhead = 256

func eventSize(ev *clientv3.Event) int {
	n := eventOverhead + len(ev.GetKv().GetKey()) + len(ev.GetKv().GetValue())
	if prev := ev.GetPrevKv(); prev != nil {
		n += len(prev.Key) + len(prev.Value)
	}
	return n
}
