package etcdcall

import (
	"context"
	"errors"
	"slices"

	"github.com/reprise-go/reprise/etcdcall/etcdstub"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// cluster is the clientv3.Cluster of this package. An addition, removal or
// promotion may be sent twice: members have ids that never come back, and a
// peer URL can be added once.
type cluster struct {
	add     bound[pb.MemberAddRequest, pb.MemberAddResponse]
	remove  bound[pb.MemberRemoveRequest, pb.MemberRemoveResponse]
	update  bound[pb.MemberUpdateRequest, pb.MemberUpdateResponse]
	promote bound[pb.MemberPromoteRequest, pb.MemberPromoteResponse]
	list    readCalls[pb.MemberListRequest, pb.MemberListResponse]
}

func newCluster(p *policy, conn grpc.ClientConnInterface) *cluster {
	calls, local := newClusterService(p, conn, kind{}), newClusterService(p, conn, kind{local: true})
	return &cluster{
		add:     bindMethod(&calls, pb.Cluster_MemberAdd_FullMethodName, (*etcdstub.ClusterClient).MemberAdd),
		remove:  bindMethod(&calls, pb.Cluster_MemberRemove_FullMethodName, (*etcdstub.ClusterClient).MemberRemove),
		update:  bindMethod(&calls, pb.Cluster_MemberUpdate_FullMethodName, (*etcdstub.ClusterClient).MemberUpdate),
		promote: bindMethod(&calls, pb.Cluster_MemberPromote_FullMethodName, (*etcdstub.ClusterClient).MemberPromote),
		list: readCalls[pb.MemberListRequest, pb.MemberListResponse]{
			linearizable: bindMethod(&calls, pb.Cluster_MemberList_FullMethodName, (*etcdstub.ClusterClient).MemberList),
			serializable: bindMethod(&local, pb.Cluster_MemberList_FullMethodName, (*etcdstub.ClusterClient).MemberList),
		},
	}
}

// MemberList implements clientv3.Cluster.
func (c *cluster) MemberList(ctx context.Context, opts ...clientv3.OpOption) (*clientv3.MemberListResponse, error) {
	op := clientv3.OpGet("", opts...)
	resp, err := c.members(ctx, !op.IsSerializable())
	return (*clientv3.MemberListResponse)(resp), err
}

func (c *cluster) members(ctx context.Context, linearizable bool) (*pb.MemberListResponse, error) {
	return c.list.do(ctx, &pb.MemberListRequest{Linearizable: linearizable}, !linearizable)
}

// MemberAdd implements clientv3.Cluster.
func (c *cluster) MemberAdd(ctx context.Context, peerURLs []string) (*clientv3.MemberAddResponse, error) {
	return c.addMember(ctx, &pb.MemberAddRequest{PeerURLs: peerURLs})
}

// MemberAddAsLearner implements clientv3.Cluster.
func (c *cluster) MemberAddAsLearner(ctx context.Context, peerURLs []string) (*clientv3.MemberAddResponse, error) {
	return c.addMember(ctx, &pb.MemberAddRequest{PeerURLs: peerURLs, IsLearner: true})
}

func (c *cluster) addMember(ctx context.Context, req *pb.MemberAddRequest) (*clientv3.MemberAddResponse, error) {
	if _, err := types.NewURLs(req.GetPeerURLs()); err != nil {
		return nil, err //nolint:wrapcheck // as clientv3 returns it
	}
	resp, err := c.add.twice(ctx, req, func(refusal error) (*pb.MemberAddResponse, bool) {
		if !errors.Is(refusal, rpctypes.ErrPeerURLExist) && !errors.Is(refusal, rpctypes.ErrMemberExist) {
			return nil, false
		}
		list, member := c.find(ctx, func(m *pb.Member) bool {
			return m.GetIsLearner() == req.GetIsLearner() && sameURLs(m.GetPeerURLs(), req.GetPeerURLs())
		})
		return &pb.MemberAddResponse{Header: list.GetHeader(), Member: member, Members: list.GetMembers()}, member != nil
	})
	return (*clientv3.MemberAddResponse)(resp), err
}

// find looks for a member in the list of the whole cluster.
func (c *cluster) find(ctx context.Context, is func(*pb.Member) bool) (*pb.MemberListResponse, *pb.Member) {
	list, err := c.members(ctx, true)
	if err != nil {
		return nil, nil
	}
	if i := slices.IndexFunc(list.GetMembers(), is); i >= 0 {
		return list, list.GetMembers()[i]
	}
	return list, nil
}

func sameURLs(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// MemberRemove implements clientv3.Cluster.
func (c *cluster) MemberRemove(ctx context.Context, id uint64) (*clientv3.MemberRemoveResponse, error) {
	resp, err := c.remove.twice(ctx, &pb.MemberRemoveRequest{ID: id}, func(refusal error) (*pb.MemberRemoveResponse, bool) {
		if !errors.Is(refusal, rpctypes.ErrMemberNotFound) {
			return nil, false
		}
		list, member := c.find(ctx, hasID(id))
		return &pb.MemberRemoveResponse{Header: list.GetHeader(), Members: list.GetMembers()}, list != nil && member == nil
	})
	return (*clientv3.MemberRemoveResponse)(resp), err
}

func hasID(id uint64) func(*pb.Member) bool {
	return func(m *pb.Member) bool { return m.GetID() == id }
}

// MemberUpdate implements clientv3.Cluster. It is a blind write: sent twice, it
// could undo what somebody else set in between.
func (c *cluster) MemberUpdate(ctx context.Context, id uint64, peerURLs []string) (*clientv3.MemberUpdateResponse, error) {
	if _, err := types.NewURLs(peerURLs); err != nil {
		return nil, err //nolint:wrapcheck // as clientv3 returns it
	}
	resp, err := c.update.do(ctx, &pb.MemberUpdateRequest{ID: id, PeerURLs: peerURLs})
	return (*clientv3.MemberUpdateResponse)(resp), err
}

// MemberPromote implements clientv3.Cluster. A member that is not the leader
// forwards the request, and does so again if it gets no answer. So an answer that
// there is no leader, or that the member is no learner, may come after the
// promotion. The latter is a success after an attempt that may have done it, and
// leaves the outcome open as the only answer.
func (c *cluster) MemberPromote(ctx context.Context, id uint64) (*clientv3.MemberPromoteResponse, error) {
	var s suspense
	forwarded := func(r *rule) bool { return r.server == rpctypes.ErrGRPCNoLeader } //nolint:errorlint // a row of the table
	done := func(refusal error) (*pb.MemberPromoteResponse, bool) {
		if s.since == refusal || !errors.Is(refusal, rpctypes.ErrMemberNotLearner) { //nolint:errorlint // the very error
			return nil, false
		}
		list, member := c.find(ctx, hasID(id))
		return &pb.MemberPromoteResponse{Header: list.GetHeader(), Members: list.GetMembers()}, member != nil && !member.GetIsLearner()
	}
	resp, err := c.promote.twiceIn(ctx, &pb.MemberPromoteRequest{ID: id}, &s, forwarded, done)
	return (*clientv3.MemberPromoteResponse)(resp), err
}
