package etcdcall

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// LeaseKeeper renews a lease until it is stopped or the lease is lost, and says
// why it ended.
//
// It never believes in a lease that the server has expired: a renewal counts
// from when its request was sent, which is before the server could act on it,
// and a tenth of the lease's time, but at most a second, is taken off for
// clocks that run at different speeds. Only the suspension of the whole
// machine, which stops its clock, goes unseen; see docs/locks.md for what to do
// about that.
//
// That a lease was revoked is noticed at the next renewal, which is made after a
// third of the lease's time, but at the latest after the time of
// [WithLeaseCheck].
//
// The methods are safe for concurrent use. Always end a keeper by its context or
// by Stop.
type LeaseKeeper struct {
	mux   *leaseMux
	lease *keptLease
	// renewed is called after every renewal, and ended at the end, with the
	// mutex of mux held. Each may be nil.
	renewed func(*pb.LeaseKeepAliveResponse)
	ended   func()
	unhook  func() bool

	done chan struct{}
	err  error // set before done is closed
}

// LeaseError says why a lease was lost.
type LeaseError struct {
	// ID is the lease.
	ID clientv3.LeaseID
	// Reason is how it was lost.
	Reason LeaseReason
	// Until is when the lease could have expired at the earliest: it was held
	// until then. It is the zero time if the keeper never knew.
	Until time.Time
	// Err is why the lease could not be renewed, if that is known.
	Err error
}

// LeaseReason is a kind of [LeaseError].
type LeaseReason int

const (
	// LeaseExpired is a lease that could not be renewed in time. It may still
	// be there for a short while.
	LeaseExpired LeaseReason = iota + 1
	// LeaseGone is a lease that the server does not know: it was revoked by
	// another client, or expired on the server.
	LeaseGone
	// LeaseRevoked is a lease that was revoked through the same client.
	LeaseRevoked
	// LeaseRefused is a lease that the server does not let this user renew.
	LeaseRefused
)

// String returns a word for the reason.
func (r LeaseReason) String() string {
	switch r {
	case LeaseExpired:
		return "not renewed in time"
	case LeaseGone:
		return "not known to the server"
	case LeaseRevoked:
		return "revoked"
	case LeaseRefused:
		return "renewal refused"
	default:
		return fmt.Sprintf("LeaseReason(%d)", int(r))
	}
}

// Error says which lease was lost, how, and why.
func (e *LeaseError) Error() string {
	s := fmt.Sprintf("etcdcall: lease %x lost: %s", int64(e.ID), e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns Err, and rpctypes.ErrLeaseNotFound for a lease that is gone or
// revoked.
func (e *LeaseError) Unwrap() []error {
	var errs []error
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	if e.Reason == LeaseGone || e.Reason == LeaseRevoked {
		errs = append(errs, rpctypes.ErrLeaseNotFound)
	}
	return errs
}

// KeepOption changes how [KeepLease] keeps a lease.
type KeepOption func(*keepSettings)

type keepSettings struct {
	sent time.Time
	ttl  time.Duration
}

// GrantedAt tells a keeper that the lease is known to last for ttl from sent,
// which is when the request to grant it, or to renew it, was sent and not when
// it was answered. A keeper of a lease that was granted through the same client
// knows already.
func GrantedAt(sent time.Time, ttl time.Duration) KeepOption {
	return func(s *keepSettings) { s.sent, s.ttl = sent, ttl }
}

// KeepLease keeps the lease id alive until ctx ends, [LeaseKeeper.Stop] is called,
// the client is closed or the lease is lost. It does not wait: the first renewal
// is under way when it returns.
//
// l is the client of [New], or the Lease of [Parts]; for any other Lease
// KeepLease returns a [*ConfigurationError]. All leases of a client are renewed
// on one stream.
func KeepLease(ctx context.Context, l clientv3.Lease, id clientv3.LeaseID, opts ...KeepOption) (*LeaseKeeper, error) {
	mux, err := leaseMuxOf(l)
	if err != nil {
		return nil, err
	}
	var s keepSettings
	for _, opt := range opts {
		if opt != nil {
			opt(&s)
		}
	}
	return mux.keep(ctx, int64(id), s, nil, nil)
}

// leaseMuxOf finds the keepers of this package behind l.
func leaseMuxOf(l clientv3.Lease) (*leaseMux, error) {
	if cli, ok := l.(*clientv3.Client); ok && cli != nil {
		l = cli.Lease
	}
	if c, ok := l.(*leaseClosing); ok {
		l = c.Lease
	}
	if own, ok := l.(*lease); ok && own != nil {
		return own.mux, nil
	}
	return nil, &ConfigurationError{Problem: "the Lease is not one of etcdcall; take it from etcdcall.New or etcdcall.Wrap"}
}

// ID returns the lease.
func (k *LeaseKeeper) ID() clientv3.LeaseID { return clientv3.LeaseID(k.lease.id) }

// Done returns a channel that is closed when the keeper has ended.
func (k *LeaseKeeper) Done() <-chan struct{} { return k.done }

// Err returns nil until Done is closed, and then why: [ErrStopped], [ErrClosed],
// an error that matches that of the context and its cause, or a [*LeaseError].
func (k *LeaseKeeper) Err() error {
	select {
	case <-k.done:
		return k.err
	default:
		return nil
	}
}

// Until returns the time up to which the lease is certainly held, unless it is
// revoked. It grows with each renewal, and is the zero time before the first
// one if the lease was not granted through the same client.
func (k *LeaseKeeper) Until() time.Time {
	k.mux.mu.Lock()
	defer k.mux.mu.Unlock()
	return k.lease.until
}

// TTL returns the time for which a renewal keeps the lease, as the server said
// last. It is zero before it is known.
func (k *LeaseKeeper) TTL() time.Duration {
	k.mux.mu.Lock()
	defer k.mux.mu.Unlock()
	return k.lease.ttl
}

// Stop ends the keeper. It does not revoke the lease. Stopping again, or a
// keeper that has ended, does nothing.
func (k *LeaseKeeper) Stop() { k.mux.release(k, ErrStopped) }
