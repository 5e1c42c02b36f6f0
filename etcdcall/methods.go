package etcdcall

import pb "go.etcd.io/etcd/api/v3/etcdserverpb"

// leaderNeed says whether a method asks for a leader before it is served.
type leaderNeed uint8

const (
	// leaderNever: any member answers for itself.
	leaderNever leaderNeed = iota
	// leaderAlways: the method goes through raft.
	leaderAlways
	// leaderByRequest: only a serializable request is answered without.
	leaderByRequest
)

// String returns the word that stands in docs/etcd-errors.md.
func (l leaderNeed) String() string {
	switch l {
	case leaderAlways:
		return "yes"
	case leaderByRequest:
		return "unless serializable"
	default:
		return "no"
	}
}

// method is what one RPC of etcd does, and so how it is called.
type method struct {
	name   string
	class  class
	leader leaderNeed
	// unhurried methods may take long for good reasons; their attempts have no
	// timeout.
	unhurried bool
	// done is the answer that means success after an attempt of unknown outcome.
	done string
	note string
}

// methodTable has every RPC of etcd's six services.
var methodTable = []method{
	{name: pb.KV_Range_FullMethodName, class: read, leader: leaderByRequest},
	{name: pb.KV_RangeStream_FullMethodName, class: stream, leader: leaderByRequest,
		note: "retried like a read; a stream that breaks goes on after the last key that came, at the same revision"},
	{name: pb.KV_Put_FullMethodName, class: blindWrite, leader: leaderAlways},
	{name: pb.KV_DeleteRange_FullMethodName, class: blindWrite, leader: leaderAlways},
	{name: pb.KV_Txn_FullMethodName, class: blindWrite, leader: leaderByRequest,
		note: "a read if neither branch writes; a guarded write if it cannot be applied twice"},
	{name: pb.KV_Compact_FullMethodName, class: idempotentWrite, leader: leaderAlways, done: "ErrCompacted"},

	{name: pb.Watch_Watch_FullMethodName, class: stream, leader: leaderAlways},

	{name: pb.Lease_LeaseGrant_FullMethodName, class: idempotentWrite, leader: leaderAlways, done: "ErrLeaseExist",
		note: "the client chooses the id, so that no attempt leaves a lease behind"},
	{name: pb.Lease_LeaseRevoke_FullMethodName, class: idempotentWrite, leader: leaderAlways, done: "ErrLeaseNotFound"},
	{name: pb.Lease_LeaseKeepAlive_FullMethodName, class: stream, leader: leaderAlways},
	{name: pb.Lease_LeaseTimeToLive_FullMethodName, class: read, leader: leaderAlways},
	{name: pb.Lease_LeaseLeases_FullMethodName, class: read, leader: leaderAlways},

	{name: pb.Cluster_MemberAdd_FullMethodName, class: idempotentWrite, leader: leaderAlways, done: "ErrPeerURLExist",
		note: "confirmed by MemberList"},
	{name: pb.Cluster_MemberRemove_FullMethodName, class: idempotentWrite, leader: leaderAlways, done: "ErrMemberNotFound",
		note: "confirmed by MemberList"},
	{name: pb.Cluster_MemberUpdate_FullMethodName, class: blindWrite, leader: leaderAlways},
	{name: pb.Cluster_MemberList_FullMethodName, class: read, leader: leaderByRequest},
	{name: pb.Cluster_MemberPromote_FullMethodName, class: idempotentWrite, leader: leaderAlways, done: "ErrMemberNotLearner",
		note: "confirmed by MemberList; a member forwards it to the leader, again and again if need be, so ErrNoLeader tells nothing, " +
			"and neither does ErrMemberNotLearner as the only answer"},

	{name: pb.Auth_AuthEnable_FullMethodName, class: idempotentWrite, leader: leaderAlways},
	{name: pb.Auth_AuthDisable_FullMethodName, class: idempotentWrite, leader: leaderAlways},
	{name: pb.Auth_AuthStatus_FullMethodName, class: read, leader: leaderAlways},
	{name: pb.Auth_Authenticate_FullMethodName, class: once, leader: leaderNever,
		note: "clientv3 fetches its token by it in the middle of an attempt"},
	{name: pb.Auth_UserAdd_FullMethodName, class: idempotentWrite, leader: leaderAlways, unhurried: true, done: "ErrUserAlreadyExist",
		note: "confirmed by UserGet: the user has no role yet; the server hashes the password as slowly as it is told to"},
	{name: pb.Auth_UserGet_FullMethodName, class: read, leader: leaderAlways},
	{name: pb.Auth_UserList_FullMethodName, class: read, leader: leaderAlways},
	{name: pb.Auth_UserDelete_FullMethodName, class: idempotentWrite, leader: leaderAlways, done: "ErrUserNotFound"},
	{name: pb.Auth_UserChangePassword_FullMethodName, class: blindWrite, leader: leaderAlways},
	{name: pb.Auth_UserGrantRole_FullMethodName, class: idempotentWrite, leader: leaderAlways},
	{name: pb.Auth_UserRevokeRole_FullMethodName, class: idempotentWrite, leader: leaderAlways, done: "ErrRoleNotGranted"},
	{name: pb.Auth_RoleAdd_FullMethodName, class: idempotentWrite, leader: leaderAlways, done: "ErrRoleAlreadyExist",
		note: "confirmed by RoleGet: the role has no permission yet"},
	{name: pb.Auth_RoleGet_FullMethodName, class: read, leader: leaderAlways},
	{name: pb.Auth_RoleList_FullMethodName, class: read, leader: leaderAlways},
	{name: pb.Auth_RoleDelete_FullMethodName, class: idempotentWrite, leader: leaderAlways, done: "ErrRoleNotFound"},
	{name: pb.Auth_RoleGrantPermission_FullMethodName, class: idempotentWrite, leader: leaderAlways},
	{name: pb.Auth_RoleRevokePermission_FullMethodName, class: idempotentWrite, leader: leaderAlways, done: "ErrPermissionNotGranted"},

	{name: pb.Maintenance_Alarm_FullMethodName, class: idempotentWrite, leader: leaderAlways, note: "AlarmList is a read"},
	{name: pb.Maintenance_Status_FullMethodName, class: read, leader: leaderNever},
	{name: pb.Maintenance_Defragment_FullMethodName, class: blindWrite, leader: leaderNever},
	{name: pb.Maintenance_Hash_FullMethodName, class: read, leader: leaderNever, unhurried: true, note: "not in clientv3's interface"},
	{name: pb.Maintenance_HashKV_FullMethodName, class: read, leader: leaderNever, unhurried: true},
	{name: pb.Maintenance_Snapshot_FullMethodName, class: stream, leader: leaderNever},
	{name: pb.Maintenance_MoveLeader_FullMethodName, class: blindWrite, leader: leaderNever},
	{name: pb.Maintenance_Downgrade_FullMethodName, class: blindWrite, leader: leaderAlways},
}

// methods finds the row of an RPC by its full name.
var methods = indexMethods()

func indexMethods() map[string]*method {
	index := make(map[string]*method, len(methodTable))
	for i := range methodTable {
		index[methodTable[i].name] = &methodTable[i]
	}
	return index
}
