package etcdcall

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/reprise-go/reprise/etcdcall/etcdstub"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// lease is the clientv3.Lease of this package: unary calls, and the keeping
// alive of leases.
type lease struct {
	*keeping
	calls clientv3.Lease
}

func newLease(p *policy, conn grpc.ClientConnInterface) *lease {
	remote := pb.NewLeaseClient(conn)
	return &lease{
		keeping: newKeeping(p, remote),
		calls:   clientv3.NewLeaseFromLeaseClient(newLeaseStub(p, conn), p.cli, 0),
	}
}

// Grant implements clientv3.Lease. The id is chosen here, so that an attempt
// whose response was lost is found again and leaves no lease behind.
func (l *lease) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	sent := time.Now()
	resp, err := l.calls.Grant(ctx, ttl)
	if err == nil {
		l.mux.renewed(int64(resp.ID), sent, time.Duration(resp.TTL)*time.Second)
	}
	return resp, unpack(err)
}

// Revoke implements clientv3.Lease. When an earlier attempt of the same call
// turns out to have done the work, the header of the response is empty. The
// keepers of the lease end.
func (l *lease) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	answered := l.mux.revoke(int64(id))
	resp, err := l.calls.Revoke(ctx, id)
	if err = unpack(err); err == nil {
		l.mux.gone(int64(id), LeaseRevoked)
	}
	answered()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		l.mux.gone(int64(id), LeaseGone)
	}
	return resp, err
}

// TimeToLive implements clientv3.Lease.
func (l *lease) TimeToLive(ctx context.Context, id clientv3.LeaseID, opts ...clientv3.LeaseOption) (*clientv3.LeaseTimeToLiveResponse, error) {
	resp, err := l.calls.TimeToLive(ctx, id, opts...)
	return resp, unpack(err)
}

// Leases implements clientv3.Lease.
func (l *lease) Leases(ctx context.Context) (*clientv3.LeaseLeasesResponse, error) {
	resp, err := l.calls.Leases(ctx)
	return resp, unpack(err)
}

// Close implements clientv3.Lease. It ends all keepers. Closing twice is harmless.
func (l *lease) Close() error {
	l.mux.close()
	return l.calls.Close()
}

// leaseStub makes the unary calls of Lease. Its errors are parcels. It has no
// stream: the clientv3.Lease above it is never asked to keep a lease alive.
type leaseStub struct {
	pb.LeaseClient
	grant  bound[pb.LeaseGrantRequest, pb.LeaseGrantResponse]
	revoke bound[pb.LeaseRevokeRequest, pb.LeaseRevokeResponse]
	ttl    bound[pb.LeaseTimeToLiveRequest, pb.LeaseTimeToLiveResponse]
	list   bound[pb.LeaseLeasesRequest, pb.LeaseLeasesResponse]
}

func newLeaseStub(p *policy, conn grpc.ClientConnInterface) *leaseStub {
	calls := newLeaseService(p, conn)
	return &leaseStub{
		LeaseClient: pb.NewLeaseClient(conn),
		grant:       bindMethod(&calls, pb.Lease_LeaseGrant_FullMethodName, (*etcdstub.LeaseClient).LeaseGrant),
		revoke:      bindMethod(&calls, pb.Lease_LeaseRevoke_FullMethodName, (*etcdstub.LeaseClient).LeaseRevoke),
		ttl:         bindMethod(&calls, pb.Lease_LeaseTimeToLive_FullMethodName, (*etcdstub.LeaseClient).LeaseTimeToLive),
		list:        bindMethod(&calls, pb.Lease_LeaseLeases_FullMethodName, (*etcdstub.LeaseClient).LeaseLeases),
	}
}

// LeaseGrant implements pb.LeaseClient.
func (s *leaseStub) LeaseGrant(ctx context.Context, req *pb.LeaseGrantRequest, _ ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	if req.GetID() == int64(clientv3.NoLease) {
		req.ID = 1 + rand.Int64N(math.MaxInt64)
	}
	resp, err := s.grant.twice(ctx, req, func(refusal error) (*pb.LeaseGrantResponse, bool) {
		return s.granted(ctx, req.GetID(), refusal)
	})
	return resp, pack(err)
}

// granted confirms that an earlier attempt granted the lease.
func (s *leaseStub) granted(ctx context.Context, id int64, refusal error) (*pb.LeaseGrantResponse, bool) {
	if !errors.Is(refusal, rpctypes.ErrLeaseExist) {
		return nil, false
	}
	lives, err := s.ttl.do(ctx, &pb.LeaseTimeToLiveRequest{ID: id})
	if err != nil || lives.GetTTL() < 0 {
		return nil, false
	}
	return &pb.LeaseGrantResponse{Header: lives.GetHeader(), ID: id, TTL: lives.GetGrantedTTL()}, true
}

// LeaseRevoke implements pb.LeaseClient.
func (s *leaseStub) LeaseRevoke(ctx context.Context, req *pb.LeaseRevokeRequest, _ ...grpc.CallOption) (*pb.LeaseRevokeResponse, error) {
	done := doneOn(rpctypes.ErrLeaseNotFound, &pb.LeaseRevokeResponse{Header: &pb.ResponseHeader{}})
	resp, err := s.revoke.twice(ctx, req, done)
	return resp, pack(err)
}

// LeaseTimeToLive implements pb.LeaseClient.
func (s *leaseStub) LeaseTimeToLive(ctx context.Context, req *pb.LeaseTimeToLiveRequest, _ ...grpc.CallOption) (*pb.LeaseTimeToLiveResponse, error) {
	resp, err := s.ttl.do(ctx, req)
	return resp, pack(err)
}

// LeaseLeases implements pb.LeaseClient.
func (s *leaseStub) LeaseLeases(ctx context.Context, req *pb.LeaseLeasesRequest, _ ...grpc.CallOption) (*pb.LeaseLeasesResponse, error) {
	resp, err := s.list.do(ctx, req)
	return resp, pack(err)
}
