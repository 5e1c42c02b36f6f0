package concurrency

import (
	"context"
	"errors"
	"time"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	v3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// lease is a lease as its holder knows it: it lasts for ttl from when the holder
// asked for it, not from when the answer came.
type lease struct {
	id    v3.LeaseID
	asked time.Time
	ttl   time.Duration
}

// until is when the server may let the lease expire, less a margin for clocks
// that run at different speeds.
func (l lease) until() time.Time {
	return l.asked.Add(l.ttl - min(l.ttl/10, time.Second))
}

// errNotRenewed is the reason of a session that ran out of time.
var errNotRenewed = errors.New("session: no renewal came in time")

// renewalInterval is the longest time between two renewals, and so the longest
// that a revocation goes unnoticed. It is that of etcdcall.
const renewalInterval = etcdcall.DefaultLeaseCheck

// obtain returns a lease to keep: the one that the session was given, or a new
// one.
func (s *Session) obtain(ctx context.Context) (lease, error) {
	asked := time.Now()
	if id := s.options.lease; id != v3.NoLease && s.current() == nil {
		resp, err := s.client.KeepAliveOnce(ctx, id)
		if err != nil {
			return lease{}, err
		}
		return lease{id, asked, time.Duration(resp.TTL) * time.Second}, nil
	}
	resp, err := s.client.Grant(ctx, int64(s.options.ttl))
	if err != nil {
		return lease{}, err
	}
	return lease{resp.ID, asked, time.Duration(resp.TTL) * time.Second}, nil
}

// keep renews the lease until ctx ends or the lease is, or may be, lost. It
// returns why.
func (l lease) keep(ctx context.Context, cli *v3.Client) (SessionReason, error) {
	keeper, err := etcdcall.KeepLease(ctx, cli, l.id, etcdcall.GrantedAt(l.asked, l.ttl))
	if _, plain := errors.AsType[*etcdcall.ConfigurationError](err); plain {
		return l.keepPlainly(ctx, pb.NewLeaseClient(cli.ActiveConnection()))
	}
	if err != nil {
		return lost(ctx, err)
	}
	<-keeper.Done()
	return lost(ctx, keeper.Err())
}

// keepPlainly keeps a lease of a client that is not etcdcall's. (The KeepAlive
// of clientv3 does not say when it asked for what it got.)
func (l lease) keepPlainly(ctx context.Context, remote pb.LeaseClient) (SessionReason, error) {
	pause := time.NewTimer(min(l.ttl/3, renewalInterval))
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return lost(ctx, ctx.Err())
		case <-pause.C:
		}
		if err := l.renew(ctx, remote); err != nil {
			return lost(ctx, err)
		}
		pause.Reset(min(l.ttl/3, renewalInterval))
	}
}

// renew renews the lease, for as long as it lasts.
func (l *lease) renew(ctx context.Context, remote pb.LeaseClient) error {
	ctx, cancel := context.WithDeadline(ctx, l.until())
	defer cancel()
	attempts := newAttempts()
	defer attempts.Exhaust()
	renewed, err := repeatable(ctx, attempts, func(ctx context.Context) (lease, error) {
		asked := time.Now()
		resp, err := renewOnce(ctx, remote, l.id)
		if err != nil {
			return lease{}, err
		}
		if resp.GetTTL() <= 0 {
			return lease{}, rpctypes.ErrLeaseNotFound
		}
		return lease{l.id, asked, time.Duration(resp.GetTTL()) * time.Second}, nil
	})
	if err == nil {
		*l = renewed
	}
	return err
}

func renewOnce(ctx context.Context, remote pb.LeaseClient, id v3.LeaseID) (*pb.LeaseKeepAliveResponse, error) {
	ctx, cancel := context.WithCancel(v3.WithRequireLeader(ctx))
	defer cancel()
	stream, err := remote.LeaseKeepAlive(ctx, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
		// Recv has the reason that Send does not.
		if _, reason := stream.Recv(); reason != nil {
			return nil, reason
		}
		return nil, err
	}
	return stream.Recv()
}

// lost says why a lease is not kept any more: its keeper ended with err.
func lost(ctx context.Context, err error) (SessionReason, error) {
	why, _ := errors.AsType[*etcdcall.LeaseError](err)
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return SessionRevoked, err
	case ctx.Err() != nil:
		return SessionCanceled, context.Cause(ctx)
	case errors.Is(err, etcdcall.ErrClosed):
		return SessionCanceled, err
	case why == nil && errors.Is(err, context.DeadlineExceeded):
		return SessionExpired, errNotRenewed
	default:
		return SessionExpired, err
	}
}

// nextLease returns a lease for the next term, however long that takes.
func (s *Session) nextLease() (lease, error) {
	return reprise.Do(s.life, s.obtain, reprise.WithRetry(func() reprise.Retryer {
		return reprise.OnErrorFunc(pauses, func(error) bool { return true })
	}), reprise.WithAttemptTimeout(attemptTimeout))
}
