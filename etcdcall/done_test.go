package etcdcall

import (
	"context"
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// reads answers the reads that confirm that a write was done.
type reads map[string]any

var doneCases = []struct {
	name    string
	method  string
	call    func(context.Context, *clientv3.Client) error
	refusal error
	confirm reads
	// doubtful refusals may speak of what the call itself did.
	doubtful bool
	// deny are reads that show that somebody else did it; nil where the refusal
	// alone is proof.
	deny reads
}{
	{
		name: "Grant", method: pb.Lease_LeaseGrant_FullMethodName, refusal: rpctypes.ErrGRPCLeaseExist,
		call:    func(ctx context.Context, cli *clientv3.Client) error { return second(cli.Grant(ctx, 60)) },
		confirm: reads{pb.Lease_LeaseTimeToLive_FullMethodName: &pb.LeaseTimeToLiveResponse{Header: &pb.ResponseHeader{}, TTL: 59, GrantedTTL: 60}},
		deny:    reads{pb.Lease_LeaseTimeToLive_FullMethodName: &pb.LeaseTimeToLiveResponse{Header: &pb.ResponseHeader{}, TTL: -1}},
	},
	{
		name: "Revoke", method: pb.Lease_LeaseRevoke_FullMethodName, refusal: rpctypes.ErrGRPCLeaseNotFound,
		call: func(ctx context.Context, cli *clientv3.Client) error { return second(cli.Revoke(ctx, 5)) },
	},
	{
		name: "Compact", method: pb.KV_Compact_FullMethodName, refusal: rpctypes.ErrGRPCCompacted,
		call: func(ctx context.Context, cli *clientv3.Client) error { return second(cli.Compact(ctx, 5)) },
	},
	{
		name: "MemberAdd", method: pb.Cluster_MemberAdd_FullMethodName, refusal: rpctypes.ErrGRPCPeerURLExist,
		call: func(ctx context.Context, cli *clientv3.Client) error {
			return second(cli.MemberAdd(ctx, []string{"http://b:1", "http://a:1"}))
		},
		confirm: members(&pb.Member{ID: 1}, &pb.Member{ID: 2, PeerURLs: []string{"http://a:1", "http://b:1"}}),
		deny:    members(&pb.Member{ID: 1}, &pb.Member{ID: 2, PeerURLs: []string{"http://a:1", "http://c:1"}}),
	},
	{
		name: "MemberAddAsLearner", method: pb.Cluster_MemberAdd_FullMethodName, refusal: rpctypes.ErrGRPCPeerURLExist,
		call: func(ctx context.Context, cli *clientv3.Client) error {
			return second(cli.MemberAddAsLearner(ctx, []string{"http://a:1"}))
		},
		confirm: members(&pb.Member{ID: 2, PeerURLs: []string{"http://a:1"}, IsLearner: true}),
		deny:    members(&pb.Member{ID: 2, PeerURLs: []string{"http://a:1"}}),
	},
	{
		name: "MemberRemove", method: pb.Cluster_MemberRemove_FullMethodName, refusal: rpctypes.ErrGRPCMemberNotFound,
		call:    func(ctx context.Context, cli *clientv3.Client) error { return second(cli.MemberRemove(ctx, 2)) },
		confirm: members(&pb.Member{ID: 1}),
		deny:    members(&pb.Member{ID: 2}),
	},
	{
		name: "MemberPromote", method: pb.Cluster_MemberPromote_FullMethodName, refusal: rpctypes.ErrGRPCMemberNotLearner,
		call:    func(ctx context.Context, cli *clientv3.Client) error { return second(cli.MemberPromote(ctx, 2)) },
		confirm: members(&pb.Member{ID: 2}),
		deny:    members(&pb.Member{ID: 2, IsLearner: true}),
		// The member that was asked forwards the request, if need be repeatedly.
		doubtful: true,
	},
	{
		name: "UserAdd", method: pb.Auth_UserAdd_FullMethodName, refusal: rpctypes.ErrGRPCUserAlreadyExist,
		call:    func(ctx context.Context, cli *clientv3.Client) error { return second(cli.UserAdd(ctx, "u", "p")) },
		confirm: reads{pb.Auth_UserGet_FullMethodName: &pb.AuthUserGetResponse{Header: &pb.ResponseHeader{}}},
		deny:    reads{pb.Auth_UserGet_FullMethodName: &pb.AuthUserGetResponse{Header: &pb.ResponseHeader{}, Roles: []string{"r"}}},
	},
	{
		name: "UserDelete", method: pb.Auth_UserDelete_FullMethodName, refusal: rpctypes.ErrGRPCUserNotFound,
		call: func(ctx context.Context, cli *clientv3.Client) error { return second(cli.UserDelete(ctx, "u")) },
	},
	{
		name: "UserRevokeRole", method: pb.Auth_UserRevokeRole_FullMethodName, refusal: rpctypes.ErrGRPCRoleNotGranted,
		call: func(ctx context.Context, cli *clientv3.Client) error {
			return second(cli.UserRevokeRole(ctx, "u", "r"))
		},
	},
	{
		name: "RoleAdd", method: pb.Auth_RoleAdd_FullMethodName, refusal: rpctypes.ErrGRPCRoleAlreadyExist,
		call:    func(ctx context.Context, cli *clientv3.Client) error { return second(cli.RoleAdd(ctx, "r")) },
		confirm: reads{pb.Auth_RoleGet_FullMethodName: &pb.AuthRoleGetResponse{Header: &pb.ResponseHeader{}}},
		deny:    reads{pb.Auth_RoleGet_FullMethodName: rpctypes.ErrGRPCRoleNotFound},
	},
	{
		name: "RoleDelete", method: pb.Auth_RoleDelete_FullMethodName, refusal: rpctypes.ErrGRPCRoleNotFound,
		call: func(ctx context.Context, cli *clientv3.Client) error { return second(cli.RoleDelete(ctx, "r")) },
	},
	{
		name: "RoleRevokePermission", method: pb.Auth_RoleRevokePermission_FullMethodName, refusal: rpctypes.ErrGRPCPermissionNotGranted,
		call: func(ctx context.Context, cli *clientv3.Client) error {
			return second(cli.RoleRevokePermission(ctx, "r", "a", ""))
		},
	},
}

func members(list ...*pb.Member) reads {
	return reads{pb.Cluster_MemberList_FullMethodName: &pb.MemberListResponse{Header: &pb.ResponseHeader{}, Members: list}}
}

// afterFailures lets a server answer the calls of method with the given errors
// in turn, the last one for ever, and other calls from reads.
func afterFailures(method string, from reads, failures ...error) func(context.Context, string, int, any) (any, error) {
	return func(_ context.Context, called string, n int, _ any) (any, error) {
		if called == method {
			return nil, failures[min(n, len(failures))-1]
		}
		if err, ok := from[called].(error); ok {
			return nil, err
		}
		if resp, ok := from[called]; ok {
			return resp, nil
		}
		return nil, status.Error(codes.Aborted, "not expected: "+called)
	}
}

func TestARefusalAfterAnAmbiguousAttemptMeansDoneWhenConfirmed(t *testing.T) {
	t.Parallel()
	lost := status.Error(codes.Unavailable, "reset")
	for _, c := range doneCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startScripted(t, afterFailures(c.method, c.confirm, lost, c.refusal))
			if err := c.call(within5s(t), s.client(t)); err != nil || s.count(c.method) != 2 {
				t.Errorf("after %d attempts: %v", s.count(c.method), err)
			}

			// Without an attempt that may have done it, the refusal stands.
			s = startScripted(t, afterFailures(c.method, c.confirm, rpctypes.ErrGRPCUnhealthy, c.refusal))
			err := c.call(within5s(t), s.client(t))
			plain := err == rpctypes.Error(c.refusal) //nolint:errorlint // == is promised
			if c.doubtful {
				plain = errors.Is(err, rpctypes.Error(c.refusal)) && OutcomeOf(err) == Unknown
			}
			if !plain || s.count(c.method) != 2 {
				t.Errorf("a plain refusal became %T (%v): %v", err, OutcomeOf(err), err)
			}

			if c.deny == nil {
				return
			}
			s = startScripted(t, afterFailures(c.method, c.deny, lost, c.refusal))
			var a *AmbiguousError
			if err := c.call(within5s(t), s.client(t)); !errors.As(err, &a) || !errors.Is(err, rpctypes.Error(c.refusal)) {
				t.Errorf("without confirmation: %T: %v", err, err)
			}
		})
	}
}

func TestEveryDoneAnswerOfTheTableIsTested(t *testing.T) {
	t.Parallel()
	tested := map[string]error{}
	for _, c := range doneCases {
		tested[c.method] = c.refusal
	}
	for i := range methodTable {
		if m := &methodTable[i]; m.done != "" && serverByName(m.done).server != tested[m.name] { //nolint:errorlint // the very variable
			t.Errorf("%s: %s is not tested", m.name, m.done)
		}
	}
}

func TestGrantKeepsToOneLeaseThroughAllAttempts(t *testing.T) {
	t.Parallel()
	ids := map[int64]bool{}
	s := startScripted(t, func(_ context.Context, _ string, n int, req any) (any, error) {
		grant := req.(*pb.LeaseGrantRequest)
		ids[grant.GetID()] = true
		if n < 4 {
			return nil, status.Error(codes.Unavailable, "reset")
		}
		return &pb.LeaseGrantResponse{Header: &pb.ResponseHeader{}, ID: grant.GetID(), TTL: grant.GetTTL()}, nil
	})
	resp, err := s.client(t).Grant(within5s(t), 60)
	if err != nil || len(ids) != 1 || !ids[int64(resp.ID)] || resp.ID <= 0 {
		t.Errorf("got %v, %v with the ids %v", resp, err, ids)
	}
}

func TestNoLeaderTellsNothingOfAPromotion(t *testing.T) {
	t.Parallel()
	s := startScripted(t, afterFailures(pb.Cluster_MemberPromote_FullMethodName, members(&pb.Member{ID: 2}),
		rpctypes.ErrGRPCNoLeader, rpctypes.ErrGRPCMemberNotLearner))
	if _, err := s.client(t).MemberPromote(within5s(t), 2); err != nil {
		t.Errorf("the promotion was forwarded and done: %v", err)
	}
}
