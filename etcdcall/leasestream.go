package etcdcall

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/internal/ending"
)

// run keeps a gRPC stream open until ctx ends, which it does with the last
// lease.
func (m *leaseMux) run(ctx context.Context) {
	if !m.anyLeader {
		ctx = clientv3.WithRequireLeader(ctx)
	}
	m.mu.Lock()
	m.renewAll()
	m.mu.Unlock()
	for ctx.Err() == nil {
		err := reprise.Invoke(ctx, func(context.Context, reprise.CallSettings) error {
			return m.serve(ctx)
		}, reprise.WithRetry(func() reprise.Retryer {
			return &renewal{mux: m, backoff: m.backoff}
		}))
		m.blame(ctx, err)
	}
}

// renewal is the Retryer of the stream.
type renewal struct {
	mux     *leaseMux
	backoff reprise.Backoff
}

// Retry implements reprise.Retryer.
func (r *renewal) Retry(err error) (time.Duration, bool) {
	r.mux.mu.Lock()
	defer r.mux.mu.Unlock()
	r.mux.broke = err
	if !resumable(err) {
		return 0, false
	}
	if r.mux.worked {
		r.backoff.Reset()
	}
	r.mux.worked = false
	r.mux.renewAll()
	return r.backoff.Pause(), true
}

// blame ends the keeping of the lease that the server refuses to renew. It ends
// the whole stream for that; the refused one is the first that it has not
// answered. A stream that could not be opened is refused to all.
func (m *leaseMux) blame(ctx context.Context, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	if etcd, ok := rpctypes.Error(err).(rpctypes.EtcdError); ok { //nolint:errorlint // Error returns it unwrapped
		err = etcd
	}
	if len(m.asked) > 0 {
		m.lose(m.asked[0], LeaseRefused, err)
	} else {
		for _, l := range m.leases {
			m.lose(l, LeaseRefused, err)
		}
	}
	m.renewAll()
}

// renewAll makes all leases due: what was under way may not have arrived.
func (m *leaseMux) renewAll() {
	m.asked = nil
	for _, l := range m.leases {
		l.sent, l.due = time.Time{}, time.Time{}
		l.overdue.Stop()
	}
}

// serve opens one gRPC stream and handles the answers on it until it ends. It
// always returns an error.
func (m *leaseMux) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	opening := time.AfterFunc(m.opening(), func() { cancel(ending.ErrSilent) })
	sent := make(chan struct{})
	defer func() {
		cancel(nil)
		<-sent
	}()
	rpc, err := m.remote.LeaseKeepAlive(ctx, m.grpc...)
	opening.Stop()
	if err != nil {
		close(sent)
		return ending.OfStream(ctx, err)
	}
	m.setAbort(cancel)
	go func() {
		defer close(sent)
		m.send(ctx, rpc)
	}()
	for {
		resp, err := rpc.Recv()
		if err != nil {
			return ending.OfStream(ctx, err)
		}
		if err := m.handle(resp); err != nil {
			return err
		}
	}
}

// opening is how long opening a stream may take.
func (m *leaseMux) opening() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	patience := m.silence
	for _, l := range m.leases {
		patience = min(patience, m.patience(l))
	}
	return patience
}

func (m *leaseMux) setAbort(cancel context.CancelCauseFunc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.abort = cancel
}

// send sends renewals when they are due, until ctx ends.
func (m *leaseMux) send(ctx context.Context, rpc pb.Lease_LeaseKeepAliveClient) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-m.wake:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		due, pause := m.takeDue()
		for _, l := range due {
			if rpc.Send(&pb.LeaseKeepAliveRequest{ID: l.id}) != nil {
				return // Recv says why
			}
		}
		timer.Reset(pause)
	}
}

// takeDue returns the leases to renew now, noted as sent, and when to look
// again.
func (m *leaseMux) takeDue() (due []*keptLease, pause time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	pause = m.check
	for _, l := range m.leases {
		if !l.sent.IsZero() {
			continue
		}
		if left := l.due.Sub(now); left > 0 {
			pause = min(pause, left)
			continue
		}
		l.sent = now
		l.overdue.Reset(m.patience(l))
		m.asked = append(m.asked, l)
		due = append(due, l)
	}
	return due, pause
}

// handle takes in an answer to a renewal.
func (m *leaseMux) handle(resp *pb.LeaseKeepAliveResponse) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.asked) == 0 || m.asked[0].id != resp.ID {
		return ending.ErrOrder
	}
	l := m.asked[0]
	m.asked = m.asked[1:]
	m.worked, m.broke = true, nil
	l.overdue.Stop()
	sent := l.sent
	l.sent = time.Time{}
	if m.leases[l.id] != l {
		return nil
	}
	if resp.TTL <= 0 {
		delete(m.granted.known, l.id)
		m.lose(l, LeaseGone, nil)
		return nil
	}
	m.holds(l, sent, time.Duration(resp.TTL)*time.Second)
	l.due = sent.Add(m.interval(l))
	for k := range l.keepers {
		if k.renewed != nil {
			k.renewed(resp)
		}
	}
	m.signal()
	return nil
}
