package etcdcall

import (
	"context"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/etcdstub"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// service is the generated client C of one etcd service, once for each way to
// bound a call: one that ends soon needs no timer for its attempts, and one
// whose context has no deadline needs an end of another kind.
type service[C any] struct {
	policy               *policy
	short, long, endless C
}

// optionsOf gives the call options of the methods of one client.
type optionsOf func(method string) []reprise.CallOption

// kind overrides what methodTable says of the methods that are of different
// kinds depending on the request.
type kind struct {
	txn   class // of Txn
	local bool  // any member answers for itself
}

// newService makes the clients of a service over conn.
func newService[C any](p *policy, conn grpc.ClientConnInterface, k kind, client func(grpc.ClientConnInterface, optionsOf) C) service[C] {
	conn = &recordingConn{conn}
	short := func(name string) []reprise.CallOption { return p.recorded(k, methods[name], false) }
	long := func(name string) []reprise.CallOption { return p.recorded(k, methods[name], true) }
	return service[C]{
		policy: p,
		short:  client(conn, short),
		long:   client(conn, long),
		endless: client(conn, func(name string) []reprise.CallOption {
			return append(long(name), reprise.WithMaxElapsed(p.maxElapsed))
		}),
	}
}

// recorded are the call options for a method by way of a recordingConn.
func (p *policy) recorded(k kind, m *method, long bool) []reprise.CallOption {
	return append(p.untimed(k.classOf(m)), reprise.WithGRPCOptions(p.needsOf(k, m, long)))
}

// classOf returns the class of a method of a service of this kind.
func (k kind) classOf(m *method) class {
	if m.name == pb.KV_Txn_FullMethodName {
		return k.txn
	}
	return m.class
}

// needsOf says what the attempts of a method are made with, in calls that may last
// longer than an attempt or not.
func (p *policy) needsOf(k kind, m *method, long bool) *attemptNeeds {
	n := p.needs(!k.local && m.leader != leaderNever)
	if long && !m.unhurried && k.classOf(m).bounded() {
		n.patience = p.patience
	}
	return n
}

// bindMethod binds an RPC as methodTable says.
func bindMethod[C, Req, Resp any](
	s *service[C], name string, call func(C, context.Context, *Req, ...reprise.CallOption) (*Resp, error),
) bound[Req, Resp] {
	return bindAs(s, methods[name].class, name, call)
}

// bindAs binds an RPC of a service that was made for class c of it.
func bindAs[C, Req, Resp any](
	s *service[C], c class, name string, call func(C, context.Context, *Req, ...reprise.CallOption) (*Resp, error),
) bound[Req, Resp] {
	of := func(client C) unaryCall[Req, Resp] {
		return func(ctx context.Context, req *Req, opts ...reprise.CallOption) (*Resp, error) {
			return call(client, ctx, req, opts...)
		}
	}
	return bound[Req, Resp]{policy: s.policy, class: c, method: name, short: of(s.short), long: of(s.long), endless: of(s.endless)}
}

func newKVService(p *policy, conn grpc.ClientConnInterface, k kind) service[*etcdstub.KVClient] {
	return newService(p, conn, k, func(conn grpc.ClientConnInterface, of optionsOf) *etcdstub.KVClient {
		return etcdstub.NewKVClient(pb.NewKVClient(conn), &etcdstub.KVCallOptions{
			RangeStream: of(pb.KV_RangeStream_FullMethodName),
			Range:       of(pb.KV_Range_FullMethodName),
			Put:         of(pb.KV_Put_FullMethodName),
			DeleteRange: of(pb.KV_DeleteRange_FullMethodName),
			Txn:         of(pb.KV_Txn_FullMethodName),
			Compact:     of(pb.KV_Compact_FullMethodName),
		})
	})
}

func newLeaseService(p *policy, conn grpc.ClientConnInterface) service[*etcdstub.LeaseClient] {
	return newService(p, conn, kind{}, func(conn grpc.ClientConnInterface, of optionsOf) *etcdstub.LeaseClient {
		return etcdstub.NewLeaseClient(pb.NewLeaseClient(conn), &etcdstub.LeaseCallOptions{
			LeaseGrant:      of(pb.Lease_LeaseGrant_FullMethodName),
			LeaseRevoke:     of(pb.Lease_LeaseRevoke_FullMethodName),
			LeaseTimeToLive: of(pb.Lease_LeaseTimeToLive_FullMethodName),
			LeaseLeases:     of(pb.Lease_LeaseLeases_FullMethodName),
		})
	})
}

func newClusterService(p *policy, conn grpc.ClientConnInterface, k kind) service[*etcdstub.ClusterClient] {
	return newService(p, conn, k, func(conn grpc.ClientConnInterface, of optionsOf) *etcdstub.ClusterClient {
		return etcdstub.NewClusterClient(pb.NewClusterClient(conn), &etcdstub.ClusterCallOptions{
			MemberAdd:     of(pb.Cluster_MemberAdd_FullMethodName),
			MemberRemove:  of(pb.Cluster_MemberRemove_FullMethodName),
			MemberUpdate:  of(pb.Cluster_MemberUpdate_FullMethodName),
			MemberList:    of(pb.Cluster_MemberList_FullMethodName),
			MemberPromote: of(pb.Cluster_MemberPromote_FullMethodName),
		})
	})
}

func newAuthService(p *policy, conn grpc.ClientConnInterface) service[*etcdstub.AuthClient] {
	return newService(p, conn, kind{}, func(conn grpc.ClientConnInterface, of optionsOf) *etcdstub.AuthClient {
		return etcdstub.NewAuthClient(pb.NewAuthClient(conn), &etcdstub.AuthCallOptions{
			AuthEnable:           of(pb.Auth_AuthEnable_FullMethodName),
			AuthDisable:          of(pb.Auth_AuthDisable_FullMethodName),
			AuthStatus:           of(pb.Auth_AuthStatus_FullMethodName),
			UserAdd:              of(pb.Auth_UserAdd_FullMethodName),
			UserGet:              of(pb.Auth_UserGet_FullMethodName),
			UserList:             of(pb.Auth_UserList_FullMethodName),
			UserDelete:           of(pb.Auth_UserDelete_FullMethodName),
			UserChangePassword:   of(pb.Auth_UserChangePassword_FullMethodName),
			UserGrantRole:        of(pb.Auth_UserGrantRole_FullMethodName),
			UserRevokeRole:       of(pb.Auth_UserRevokeRole_FullMethodName),
			RoleAdd:              of(pb.Auth_RoleAdd_FullMethodName),
			RoleGet:              of(pb.Auth_RoleGet_FullMethodName),
			RoleList:             of(pb.Auth_RoleList_FullMethodName),
			RoleDelete:           of(pb.Auth_RoleDelete_FullMethodName),
			RoleGrantPermission:  of(pb.Auth_RoleGrantPermission_FullMethodName),
			RoleRevokePermission: of(pb.Auth_RoleRevokePermission_FullMethodName),
		})
	})
}

func newMaintenanceService(p *policy, conn grpc.ClientConnInterface) service[*etcdstub.MaintenanceClient] {
	return newService(p, conn, kind{}, func(conn grpc.ClientConnInterface, of optionsOf) *etcdstub.MaintenanceClient {
		return etcdstub.NewMaintenanceClient(pb.NewMaintenanceClient(conn), &etcdstub.MaintenanceCallOptions{
			Alarm:      of(pb.Maintenance_Alarm_FullMethodName),
			Status:     of(pb.Maintenance_Status_FullMethodName),
			Defragment: of(pb.Maintenance_Defragment_FullMethodName),
			HashKV:     of(pb.Maintenance_HashKV_FullMethodName),
			MoveLeader: of(pb.Maintenance_MoveLeader_FullMethodName),
			Downgrade:  of(pb.Maintenance_Downgrade_FullMethodName),
		})
	})
}
