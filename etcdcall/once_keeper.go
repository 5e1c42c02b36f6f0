package etcdcall

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reprise-go/reprise"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// keeper keeps the identity of a client: it makes one when it is needed, renews
// its lease, lends its slots, and gives all back at the end.
type keeper struct {
	*policy
	began   time.Time
	grant   bound[leaseGrant, pb.LeaseGrantResponse]
	create  bound[slotBatch, pb.TxnResponse]
	renew   bound[leaseRenewal, pb.LeaseKeepAliveResponse]
	guarded bound[onceCall, pb.TxnResponse]
	fetch   bound[pb.RangeRequest, pb.RangeResponse]
	revoke  *reprise.Unary[pb.LeaseRevokeRequest, pb.LeaseRevokeResponse]
	current atomic.Pointer[identity]

	// ctx ends when the keeper is closed.
	ctx  context.Context
	stop context.CancelFunc

	mu     sync.Mutex
	closed bool
	making *making
	work   sync.WaitGroup
}

// making is an identity that is being made.
type making struct {
	done chan struct{}
	err  error
}

// leaseGrant and leaseRenewal are requests that tell when they were sent.
type leaseGrant struct {
	sent *time.Duration
	req  *pb.LeaseGrantRequest
}

type leaseRenewal struct {
	sent *time.Duration
	req  *pb.LeaseKeepAliveRequest
}

// revokeTimeout bounds how long closing a client waits for its records to be
// removed. Its lease removes them later if that fails.
const revokeTimeout = time.Second

var errOnceClosed = errors.New("etcdcall: the client is closed")

func newKeeper(p *policy, kv pb.KVClient, lease pb.LeaseClient) *keeper {
	k := &keeper{policy: p, began: time.Now()}
	k.ctx, k.stop = context.WithCancel(context.Background())
	k.grant = bindLed(p, read, pb.Lease_LeaseGrant_FullMethodName,
		func(ctx context.Context, g *leaseGrant, opts ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
			*g.sent = k.elapsed()
			return lease.LeaseGrant(ctx, g.req, opts...)
		})
	k.create = bindLed(p, read, pb.KV_Txn_FullMethodName,
		func(ctx context.Context, b *slotBatch, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
			return kv.Txn(ctx, b.request(), opts...)
		})
	patience := p.once.ttl / 3
	if p.attemptTimeout > 0 {
		patience = min(patience, p.attemptTimeout)
	}
	renewal := append(p.options(read), reprise.WithAttemptTimeout(patience))
	k.renew = bindOptions(p, renewal, pb.Lease_LeaseKeepAlive_FullMethodName,
		func(ctx context.Context, r *leaseRenewal, opts ...grpc.CallOption) (*pb.LeaseKeepAliveResponse, error) {
			*r.sent = k.elapsed()
			return renewOnce(ctx, lease, r.req, opts...)
		})
	bounded := p.needs(true)
	bounded.patience = p.patience
	send := recorded(kv.Txn, bounded)
	k.guarded = bindOptions(p, p.untimed(read), pb.KV_Txn_FullMethodName,
		func(ctx context.Context, c *onceCall, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
			return c.attempt(ctx, send, opts)
		})
	k.fetch = bindLed(p, read, pb.KV_Range_FullMethodName, kv.Range)
	k.revoke = reprise.NewUnary(recorded(lease.LeaseRevoke, p.needs(false)),
		append(p.options(read), reprise.WithTimeout(revokeTimeout))...)
	return k
}

func (k *keeper) elapsed() time.Duration { return time.Since(k.began) }

// renewOnce renews a lease on a stream of its own, which ends with it.
func renewOnce(ctx context.Context, lease pb.LeaseClient, req *pb.LeaseKeepAliveRequest, opts ...grpc.CallOption) (*pb.LeaseKeepAliveResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := lease.LeaseKeepAlive(ctx, opts...)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(req); err != nil {
		// Recv says why the stream is broken.
		_, err = stream.Recv()
		return nil, err
	}
	return stream.Recv()
}

// acquire lends a slot of a usable identity. Its errors mean that nothing was
// sent.
func (k *keeper) acquire(ctx context.Context) (*slot, error) {
	if id := k.current.Load(); id != nil && id.state() == nil {
		select {
		case s := <-id.free:
			return s, nil
		default:
		}
	}
	if _, ok := ctx.Deadline(); !ok && k.maxElapsed > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, k.maxElapsed)
		defer cancel()
	}
	for {
		s, err := k.await(ctx)
		if s != nil || err != nil {
			return s, err
		}
	}
}

// await waits for whatever a slot has to wait for next. It returns neither a
// slot nor an error if the caller has to look again.
func (k *keeper) await(ctx context.Context) (*slot, error) {
	id := k.current.Load()
	if id == nil || id.gone.Load() {
		return nil, k.awaitIdentity(ctx)
	}
	changed := id.change()
	if id.state() != nil {
		select {
		case <-changed:
			return nil, nil
		case <-ctx.Done():
			return nil, waited(ctx, errIdentityStale)
		}
	}
	select {
	case s := <-id.free:
		return s, nil
	default:
	}
	id.growMore()
	select {
	case s := <-id.free:
		return s, nil
	case <-changed:
		return nil, nil
	case <-ctx.Done():
		return nil, waited(ctx, errNoSlot)
	}
}

var errNoSlot = errors.New("etcdcall: all records of exactly-once writes are in use")

// waited is the error of a write that ended before it was sent.
func waited(ctx context.Context, what error) error {
	return &notAppliedError{err: fmt.Errorf("%w: %w", what, context.Cause(ctx))}
}

// awaitIdentity waits until an identity was made, by this call or another.
func (k *keeper) awaitIdentity(ctx context.Context) error {
	m, err := k.make()
	if err != nil {
		return err
	}
	select {
	case <-m.done:
		if m.err != nil {
			return &notAppliedError{err: m.err}
		}
		return nil
	case <-ctx.Done():
		return waited(ctx, errors.New("etcdcall: no identity for exactly-once writes yet"))
	}
}

// make starts making an identity, unless that is under way.
func (k *keeper) make() (*making, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch id := k.current.Load(); {
	case k.closed:
		return nil, &notAppliedError{err: errOnceClosed}
	case k.making != nil:
		return k.making, nil
	case id != nil && !id.gone.Load():
		return &making{done: closedChannel}, nil
	}
	m := &making{done: make(chan struct{})}
	k.making = m
	k.work.Go(func() {
		id, err := k.newIdentity(k.ctx)
		if err == nil {
			k.current.Store(id)
		}
		k.mu.Lock()
		k.making, m.err = nil, err
		k.mu.Unlock()
		close(m.done)
	})
	return m, nil
}

var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// spawn runs work that is not to outlive the keeper.
func (k *keeper) spawn(work func(context.Context)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.work.Go(func() { work(k.ctx) })
	}
}

// close stops all work and revokes the lease, with which the records go.
func (k *keeper) close() {
	k.mu.Lock()
	closed := k.closed
	k.closed = true
	k.mu.Unlock()
	k.stop()
	k.work.Wait()
	if closed {
		return
	}
	if id := k.current.Load(); id != nil {
		lost := id.gone.Load()
		id.lose()
		if !lost {
			k.giveBack(id.lease)
		}
	}
}

// giveBack revokes a lease, also when the keeper is closed. What fails here is
// made good by the end of the lease.
func (k *keeper) giveBack(lease int64) {
	_, _ = k.revoke.Call(context.Background(), &pb.LeaseRevokeRequest{ID: lease})
}

// keepAlive renews the lease three times in its time to live, until the
// identity is lost or the keeper closed.
func (id *identity) keepAlive(ctx context.Context) {
	every := id.keeper.once.ttl / 3
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			id.renewNow(ctx)
		}
	}
}

// renewNow renews the lease. It goes on trying for as long as failures may
// pass; after one that does not, the next tick tries again.
func (id *identity) renewNow(ctx context.Context) {
	var sent time.Duration
	resp, err := id.keeper.renew.call(id.keeper.led(ctx), &leaseRenewal{sent: &sent, req: &pb.LeaseKeepAliveRequest{ID: id.lease}})
	switch {
	case err != nil:
	case resp.GetTTL() <= 0:
		id.lose()
	default:
		id.renewed(sent, time.Duration(resp.GetTTL())*time.Second)
	}
}
