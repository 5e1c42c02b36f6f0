package etcdcall

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/reprise-go/reprise"
)

// DefaultLeaseCheck is the default of [WithLeaseCheck].
const DefaultLeaseCheck = 3 * time.Second

// WithLeaseCheck sets the longest time between two renewals of a lease that is
// kept alive, by default [DefaultLeaseCheck]: so long it takes at most to notice
// that the lease was revoked. A lease is renewed after a third of its time if
// that is shorter. A renewal costs the leader a look-up in memory. Values that
// are not positive stand for the default.
func WithLeaseCheck(d time.Duration) Option {
	return func(s *settings) { s.leaseCheck = d }
}

func (s *settings) lease() leaseSettings {
	l := leaseSettings{
		backoff:   reprise.Backoff{Initial: 10 * time.Millisecond, Max: 500 * time.Millisecond, Multiplier: 2},
		check:     s.leaseCheck,
		silence:   s.watch().Silence,
		anyLeader: s.anyLeader,
	}
	if l.check <= 0 {
		l.check = DefaultLeaseCheck
	}
	return l
}

// keeping is the part of a clientv3.Lease that keeps leases alive.
type keeping struct {
	mux  *leaseMux
	once bound[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]
}

func newKeeping(p *policy, remote pb.LeaseClient) *keeping {
	return &keeping{
		mux: newLeaseMux(remote, p.settings.lease(), p.grpc),
		once: bind(p, read, pb.Lease_LeaseKeepAlive_FullMethodName,
			func(ctx context.Context, req *pb.LeaseKeepAliveRequest, opts ...grpc.CallOption) (*pb.LeaseKeepAliveResponse, error) {
				return renewOnce(ctx, remote, req, opts...)
			}),
	}
}

// KeepAlive implements clientv3.Lease. The channel closes when the lease is
// lost, no later than it can have expired on the server if it was granted
// through the same client; [KeepLease] also says why.
func (l *keeping) KeepAlive(ctx context.Context, id clientv3.LeaseID) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	out := make(chan *clientv3.LeaseKeepAliveResponse, clientv3.LeaseResponseChSize)
	_, err := l.mux.keep(ctx, int64(id), keepSettings{}, func(r *pb.LeaseKeepAliveResponse) {
		select {
		case out <- &clientv3.LeaseKeepAliveResponse{ResponseHeader: r.GetHeader(), ID: clientv3.LeaseID(r.ID), TTL: r.TTL}:
		default: // as clientv3: a reader that is slow misses responses
		}
	}, func() { close(out) })
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, ErrClosed):
		close(out)
		return out, clientv3.ErrKeepAliveHalted{Reason: err}
	default: // the context has ended
		close(out)
		return out, nil
	}
}

// KeepAliveOnce implements clientv3.Lease. It is retried as a read is, since
// renewing a lease twice is the same as renewing it once.
func (l *keeping) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	sent := time.Now()
	r, err := l.once.call(l.once.policy.led(ctx), &pb.LeaseKeepAliveRequest{ID: int64(id)})
	if err != nil {
		if etcd, ok := rpctypes.Error(err).(rpctypes.EtcdError); ok { //nolint:errorlint // Error returns it unwrapped
			return nil, etcd
		}
		return nil, err
	}
	if r.TTL <= 0 {
		l.mux.gone(int64(id), LeaseGone)
		return nil, rpctypes.ErrLeaseNotFound
	}
	l.mux.renewed(int64(id), sent, time.Duration(r.TTL)*time.Second)
	return &clientv3.LeaseKeepAliveResponse{ResponseHeader: r.GetHeader(), ID: clientv3.LeaseID(r.ID), TTL: r.TTL}, nil
}
