package etcdcall

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise/etcdcall/internal/completion"
)

// identity is what a client's records belong to: a lease whose id the server
// chose, so that no lease ever returns, and the slots attached to it.
//
// It is usable until shortly before the lease can have expired, judged from
// when the last renewal was sent; after that it is stale, and usable again if
// a renewal still succeeds. Once lost it stays lost.
type identity struct {
	keeper *keeper
	lease  int64
	prefix string // of its slots

	// until is when the identity becomes stale, in time since keeper.began.
	until atomic.Int64
	gone  atomic.Bool

	// free holds the slots that serve no call. Its room is that of all slots.
	free    chan *slot
	retired chan *slot

	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, when the state changes
	slots   []*slot
	named   int // names given to slots, also to those that were not made
	growing bool

	stop context.CancelFunc
}

// slot is one record key. It serves one call at a time; whoever holds it may
// use its fields.
type slot struct {
	id  *identity
	key []byte
	seq uint64 // the highest number used
}

// The errors of attempts that were not made. They are statuses, so that the
// rules for transport failures apply: the first is tried again, the second is
// not.
var (
	errIdentityStale = status.Error(codes.Unavailable, "etcdcall: the lease of exactly-once writes may have expired and could not be renewed yet")
	errIdentityGone  = status.Error(codes.FailedPrecondition, ErrIdentityLost.Error())
)

// state returns nil if a write may be sent.
func (id *identity) state() error {
	switch {
	case id.gone.Load():
		return errIdentityGone
	case id.keeper.elapsed() >= time.Duration(id.until.Load()):
		return errIdentityStale
	default:
		return nil
	}
}

// renewed notes that the lease was renewed, or granted, by a request sent at a
// time for a time to live. The server counts from the arrival of the request,
// which is later; a tenth is left for clocks that run at different speeds.
func (id *identity) renewed(sent, ttl time.Duration) {
	id.until.Store(int64(sent + ttl - ttl/10))
	id.announce()
}

// lose marks the identity as lost. Slots that others hold die with it.
func (id *identity) lose() {
	if id.gone.CompareAndSwap(false, true) {
		id.stop()
		id.announce()
	}
}

func (id *identity) announce() {
	id.mu.Lock()
	defer id.mu.Unlock()
	close(id.changed)
	id.changed = make(chan struct{})
}

// change returns a channel that is closed at the next change of state.
func (id *identity) change() <-chan struct{} {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.changed
}

// newIdentity grants a lease and creates the first slots. None of it is
// repeated after an attempt of unknown outcome by name: a lease granted twice
// has two ids, and slots tried again get other names.
func (k *keeper) newIdentity(ctx context.Context) (*identity, error) {
	var sent time.Duration
	granted, err := k.grant.call(ctx, &leaseGrant{sent: &sent, req: &pb.LeaseGrantRequest{TTL: int64(k.once.ttl / time.Second)}})
	if err != nil {
		return nil, fmt.Errorf("etcdcall: granting the lease of exactly-once writes: %w", readError(err))
	}
	id := &identity{
		keeper:  k,
		lease:   granted.GetID(),
		prefix:  fmt.Sprintf("%s%016x/", k.once.prefix, granted.GetID()),
		free:    make(chan *slot, k.once.slots),
		retired: make(chan *slot, k.once.slots),
		changed: make(chan struct{}),
	}
	own, stop := context.WithCancel(k.ctx)
	id.stop = stop
	id.renewed(sent, time.Duration(granted.GetTTL())*time.Second)
	if err := id.grow(ctx, firstSlots); err != nil {
		stop()
		k.work.Go(func() { k.giveBack(id.lease) }) // or each write that fails so would leave one behind
		return nil, err
	}
	k.work.Go(func() { id.keepAlive(own) })
	k.work.Go(func() { id.fence(own) })
	return id, nil
}

// Slots are created in batches, each as large as all before it.
const (
	firstSlots = 16
	mostSlots  = 64 // in one batch: the server allows 128 operations
)

// grow creates up to n more slots, within the limit. Every attempt uses names
// that no attempt before it used, so that one that arrives late can never
// bring back a slot that was in use. Names are limited too: a client whose
// attempts failed that often has to do with what slots it has.
func (id *identity) grow(ctx context.Context, n int) error {
	id.mu.Lock()
	n = min(n, mostSlots, id.keeper.once.slots-len(id.slots))
	if room := 2*id.keeper.once.slots - id.named; n > room {
		n = room
	}
	id.mu.Unlock()
	if n <= 0 {
		return nil
	}
	batch := &slotBatch{id: id, count: n}
	if _, err := id.keeper.create.call(ctx, batch); err != nil {
		return fmt.Errorf("etcdcall: creating records of exactly-once writes under %q: %w", id.prefix, readError(err))
	}
	for i := range n {
		s := &slot{id: id, key: id.slotKey(batch.first + i)}
		id.mu.Lock()
		id.slots = append(id.slots, s)
		id.mu.Unlock()
		id.free <- s
	}
	return nil
}

// slotKey is the n-th name. All are equally long, so that comparing them compares
// their numbers, as the guard of a creation does.
func (id *identity) slotKey(n int) []byte { return fmt.Appendf(nil, "%s%08x", id.prefix, n) }

// growMore starts creating more slots, unless that is under way or there are
// enough. It does not wait.
func (id *identity) growMore() {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.growing || len(id.slots) >= id.keeper.once.slots || id.gone.Load() {
		return
	}
	id.growing = true
	n := len(id.slots)
	id.keeper.spawn(func(ctx context.Context) {
		// A failure is no caller's: those who wait go on waiting for slots
		// that come free, and the next that finds none asks again.
		_ = id.grow(ctx, n)
		id.mu.Lock()
		id.growing = false
		grown := len(id.slots) > n
		id.mu.Unlock()
		if grown {
			id.announce() // those who got none of them ask for more
		}
	})
}

// slotBatch is the request to create slots of one identity, in which each
// attempt takes names of its own.
type slotBatch struct {
	id    *identity
	count int
	first int // the first name of the last attempt
}

// request creates slots where there are none, so that a copy of it that arrives
// late leaves those in use alone. Whether it found them there need not be asked:
// only a copy of it can have made them.
func (b *slotBatch) request() *pb.TxnRequest {
	b.id.mu.Lock()
	b.first = b.id.named
	b.id.named += b.count
	b.id.mu.Unlock()
	req := &pb.TxnRequest{Compare: []*pb.Compare{{
		Key: b.id.slotKey(b.first), RangeEnd: b.id.slotKey(b.first + b.count),
		Target: pb.Compare_CREATE, Result: pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 0},
	}}}
	for i := range b.count {
		req.Success = append(req.Success, completion.NewSlot(b.id.slotKey(b.first+i), b.id.lease))
	}
	return req
}
