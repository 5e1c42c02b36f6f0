package concurrency

import (
	"context"
	"time"

	v3 "go.etcd.io/etcd/client/v3"
)

const (
	defaultSessionTTL   = 60
	defaultGrantTimeout = 10 * time.Second
)

// SessionOption changes how [NewSession] makes a session. A nil SessionOption is
// ignored.
type SessionOption func(*sessionOptions)

type sessionOptions struct {
	ttl          int
	lease        v3.LeaseID
	ctx          context.Context
	grantTimeout time.Duration
	regrant      bool
}

// WithTTL sets the time to live of the session's lease, in seconds: how long its
// locks stay taken after its process has died, and how long the session can live
// through a loss of the connection. Values of zero and less leave the default of
// 60. A server may raise a TTL that is shorter than its election timeout allows.
func WithTTL(ttl int) SessionOption {
	return func(o *sessionOptions) {
		if ttl > 0 {
			o.ttl = ttl
		}
	}
}

// WithLease makes the session keep a lease that exists already, for example to
// take back the leadership of an election after a restart of the process.
// NewSession fails if the lease does not exist.
func WithLease(lease v3.LeaseID) SessionOption {
	return func(o *sessionOptions) { o.lease = lease }
}

// WithContext gives the session a context of its own in place of the client's.
// When it ends, NewSession and Close return at once, and the session ends; its
// lease is then not revoked but left to expire.
func WithContext(ctx context.Context) SessionOption {
	return func(o *sessionOptions) {
		if ctx != nil {
			o.ctx = ctx
		}
	}
}

// WithGrantTimeout bounds how long NewSession waits for its lease, by default
// 10 s. Unlike a deadline in the context of [WithContext] it does not bound the
// life of the session. Zero and negative values leave the default.
func WithGrantTimeout(d time.Duration) SessionOption {
	return func(o *sessionOptions) {
		if d > 0 {
			o.grantTimeout = d
		}
	}
}

// WithRegrant makes the session ask for a new lease when it has lost one, for as
// long as its context lives. Each lease is an epoch of the session: all that was
// bound to the lease of the last epoch is lost and must be taken anew, and
// Lease, Done, Ctx and Epoch speak of the latest epoch. Locks and elections that
// are entered between two epochs wait for the next one.
//
// Without it, a session that has lost its lease stays ended.
func WithRegrant() SessionOption {
	return func(o *sessionOptions) { o.regrant = true }
}
