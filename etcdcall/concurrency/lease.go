package concurrency

import (
	"context"
	"errors"
	"time"

	v3 "go.etcd.io/etcd/client/v3"
)

// lease is a lease as its holder knows it.
type lease struct {
	id v3.LeaseID
	// until is when the server may let it expire, by the holder's clock:
	// counted from when the holder asked, not from when the answer came.
	until time.Time
}

// errNotRenewed is the reason of a session that ran out of time.
var errNotRenewed = errors.New("session: no renewal came in time")

// obtain returns a lease to keep: the one that the session was given, or a new
// one.
func (s *Session) obtain(ctx context.Context) (lease, error) {
	asked := time.Now()
	if id := s.options.lease; id != v3.NoLease && s.current() == nil {
		resp, err := s.client.KeepAliveOnce(ctx, id)
		if err != nil {
			return lease{}, err
		}
		return lease{id, asked.Add(time.Duration(resp.TTL) * time.Second)}, nil
	}
	resp, err := s.client.Grant(ctx, int64(s.options.ttl))
	if err != nil {
		return lease{}, err
	}
	return lease{resp.ID, asked.Add(time.Duration(resp.TTL) * time.Second)}, nil
}

// keep renews the lease until ctx ends or the lease is, or may be, lost. It
// returns why.
func (l lease) keep(ctx context.Context, cli *v3.Client) (SessionReason, error) {
	renewals, err := cli.KeepAlive(ctx, l.id)
	if err != nil {
		return SessionExpired, err
	}
	expiry := time.NewTimer(time.Until(l.until))
	defer expiry.Stop()
	for {
		select {
		case <-ctx.Done():
			return SessionCanceled, context.Cause(ctx)
		case <-expiry.C:
			return SessionExpired, errNotRenewed
		case resp, ok := <-renewals:
			if !ok {
				return l.lost(ctx)
			}
			l.until = time.Now().Add(time.Duration(resp.TTL) * time.Second)
			expiry.Reset(time.Until(l.until))
		}
	}
}

// lost tells a lease that the server does not know from one that ran out.
func (l lease) lost(ctx context.Context) (SessionReason, error) {
	switch {
	case ctx.Err() != nil:
		return SessionCanceled, context.Cause(ctx)
	case time.Now().Before(l.until):
		return SessionRevoked, nil
	default:
		return SessionExpired, errNotRenewed
	}
}
