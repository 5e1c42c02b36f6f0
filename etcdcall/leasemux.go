package etcdcall

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/internal/ending"
)

// leaseMux keeps the leases of one client alive, on one gRPC stream. The server
// answers the requests on it in their order.
type leaseMux struct {
	leaseSettings
	remote pb.LeaseClient
	grpc   []grpc.CallOption

	mu       sync.Mutex
	leases   map[int64]*keptLease
	granted  grants
	revoking map[int64]int      // how many calls revoke a lease now
	cancel   context.CancelFunc // of the stream that is kept open; nil without leases
	last     chan struct{}      // closed when the stream begun last has ended
	closed   bool
	running  sync.WaitGroup

	// Of the gRPC stream that was opened last; see leasestream.go.
	abort  context.CancelCauseFunc
	asked  []*keptLease // in the order of the answers to come
	worked bool
	broke  error // why the last one ended
	wake   chan struct{}
}

// leaseSettings are what options say of leases.
type leaseSettings struct {
	backoff   reprise.Backoff
	check     time.Duration
	silence   time.Duration
	anyLeader bool
}

// keptLease is a lease that is kept. The mutex of the leaseMux guards it.
type keptLease struct {
	id      int64
	keepers map[*LeaseKeeper]struct{}
	ttl     time.Duration
	until   time.Time   // held until then, zero if not known
	due     time.Time   // of the next renewal, zero for at once
	sent    time.Time   // of the renewal that is under way, zero if none is
	expiry  *time.Timer // fires at until
	overdue *time.Timer // fires when the answer to a renewal is overdue
}

func newLeaseMux(remote pb.LeaseClient, s leaseSettings, callOpts []grpc.CallOption) *leaseMux {
	return &leaseMux{
		leaseSettings: s,
		remote:        remote,
		grpc:          callOpts,
		leases:        make(map[int64]*keptLease),
		revoking:      make(map[int64]int),
		wake:          make(chan struct{}, 1),
	}
}

// keep begins to keep the lease id for one more keeper.
func (m *leaseMux) keep(ctx context.Context, id int64, s keepSettings, renewed func(*pb.LeaseKeepAliveResponse), ended func()) (*LeaseKeeper, error) {
	if ctx.Err() != nil {
		return nil, ending.OfContext(ctx)
	}
	k := &LeaseKeeper{mux: m, renewed: renewed, ended: ended, done: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	l := m.leases[id]
	if l == nil {
		l = m.begin(id)
	}
	k.lease = l
	l.keepers[k] = struct{}{}
	if s.ttl > 0 {
		m.holds(l, s.sent, s.ttl)
	}
	k.unhook = context.AfterFunc(ctx, func() { m.release(k, ending.OfContext(ctx)) })
	return k, nil
}

// begin adds a lease, and opens the stream for the first.
func (m *leaseMux) begin(id int64) *keptLease {
	l := &keptLease{id: id, keepers: make(map[*LeaseKeeper]struct{})}
	l.expiry = time.AfterFunc(time.Hour, func() { m.expire(l) })
	l.expiry.Stop()
	l.overdue = time.AfterFunc(time.Hour, func() { m.answerOverdue(l) })
	l.overdue.Stop()
	m.leases[id] = l
	if g, ok := m.granted.known[id]; ok && time.Until(g.until()) > 0 {
		// What is past says nothing: another client may have renewed it.
		m.holds(l, g.sent, g.ttl)
	}
	if m.cancel == nil {
		ctx, cancel := context.WithCancel(context.Background())
		m.cancel = cancel
		before, done := m.last, make(chan struct{})
		m.last = done
		m.running.Go(func() {
			defer close(done)
			if before != nil {
				<-before
			}
			m.run(ctx)
		})
	}
	m.signal()
	return l
}

// holds notes that the lease lasts for ttl from sent.
func (m *leaseMux) holds(l *keptLease, sent time.Time, ttl time.Duration) {
	l.ttl = ttl
	until := grant{sent: sent, ttl: ttl}.until()
	if until.After(l.until) {
		l.until = until
		l.expiry.Reset(time.Until(until))
	}
}

// leaseMargin is what is taken off the time of a lease for clocks that run at
// different speeds.
func leaseMargin(ttl time.Duration) time.Duration { return min(ttl/10, time.Second) }

// interval is the time between the renewals of l.
func (m *leaseMux) interval(l *keptLease) time.Duration { return min(l.ttl/3, m.check) }

// patience is how long an answer to a renewal of l may take.
func (m *leaseMux) patience(l *keptLease) time.Duration {
	if l.ttl == 0 {
		return m.silence
	}
	return min(l.ttl/3, m.silence)
}

// expire ends l unless it was renewed meanwhile, and the timer set again.
func (m *leaseMux) expire(l *keptLease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Until(l.until) <= 0 {
		m.lose(l, LeaseExpired, m.broke)
	}
}

// answerOverdue gives the stream up if l still waits on it.
func (m *leaseMux) answerOverdue(l *keptLease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !l.sent.IsZero() && time.Since(l.sent) >= m.patience(l) {
		m.abort(ending.ErrSilent)
	}
}

// lose ends all keepers of l. The answer to a renewal may overtake that of the
// revocation which it tells of.
func (m *leaseMux) lose(l *keptLease, reason LeaseReason, err error) {
	if reason == LeaseGone && m.revoking[l.id] > 0 {
		reason = LeaseRevoked
	}
	for k := range l.keepers {
		m.end(k, &LeaseError{ID: clientv3.LeaseID(l.id), Reason: reason, Until: l.until, Err: err})
	}
}

// end ends k, and the keeping of the lease with the last keeper.
func (m *leaseMux) end(k *LeaseKeeper, err error) {
	l := k.lease
	if _, ok := l.keepers[k]; !ok {
		return
	}
	delete(l.keepers, k)
	k.err = err
	close(k.done)
	if k.ended != nil {
		k.ended()
	}
	k.unhook()
	if len(l.keepers) > 0 {
		return
	}
	delete(m.leases, l.id)
	l.expiry.Stop()
	l.overdue.Stop()
	if len(m.leases) == 0 {
		m.cancel()
		m.cancel = nil
	}
}

func (m *leaseMux) release(k *LeaseKeeper, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.end(k, err)
}

// renewed notes that the client was granted a lease, or has renewed it, by a
// request that was sent at sent.
func (m *leaseMux) renewed(id int64, sent time.Time, ttl time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.granted.add(id, sent, ttl)
	if l := m.leases[id]; l != nil {
		m.holds(l, sent, ttl)
	}
}

// revoke notes that the client revokes a lease, until the function that it
// returns is called.
func (m *leaseMux) revoke(id int64) (answered func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revoking[id]++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.revoking[id]--; m.revoking[id] == 0 {
			delete(m.revoking, id)
		}
	}
}

// gone notes that a lease is not there any more.
func (m *leaseMux) gone(id int64, reason LeaseReason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.granted.known, id)
	if l := m.leases[id]; l != nil {
		m.lose(l, reason, nil)
	}
}

// close ends all keepers and waits until nothing of them is left running.
func (m *leaseMux) close() {
	m.mu.Lock()
	m.closed = true
	for _, l := range m.leases {
		for k := range l.keepers {
			m.end(k, ErrClosed)
		}
	}
	m.mu.Unlock()
	m.running.Wait()
}

// signal wakes the sender.
func (m *leaseMux) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// grants remembers when the latest leases were granted, for the keeper that may
// come. It is bounded.
type grants struct {
	known map[int64]grant
	order []int64
}

type grant struct {
	sent time.Time
	ttl  time.Duration
}

// until is how long the lease is certainly held.
func (g grant) until() time.Time { return g.sent.Add(g.ttl - leaseMargin(g.ttl)) }

const maxGrants = 1024

func (g *grants) add(id int64, sent time.Time, ttl time.Duration) {
	if g.known == nil {
		g.known = make(map[int64]grant)
	}
	if _, ok := g.known[id]; !ok {
		g.order = append(g.order, id)
	}
	g.known[id] = grant{sent: sent, ttl: ttl}
	for len(g.order) > maxGrants {
		delete(g.known, g.order[0])
		g.order = g.order[1:]
	}
}
