package calls_test

import (
	"context"
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

// lostResponses are calls whose work a member does while its response is lost.
// A repetition of each is refused, or does harm, or both.
var lostResponses = []struct {
	name, method string
	prepare      func(ctx context.Context, admin *clientv3.Client) error
	call         func(ctx context.Context, cli *clientv3.Client) error
	// raw tells whether clientv3 has an error to show; it never should.
	raw bool
	// state counts what the call made or left.
	state func(ctx context.Context, admin *clientv3.Client) (int, error)
	// rawState and want are the state after clientv3 and after Reprise.
	rawState, want int
}{
	{
		name: "Grant", method: pb.Lease_LeaseGrant_FullMethodName,
		call: func(ctx context.Context, cli *clientv3.Client) error { return second(cli.Grant(ctx, 60)) },
		// clientv3 is content, and has leaked a lease with each lost response.
		raw: false, state: countLeases, rawState: 4, want: 1,
	},
	{
		name: "Revoke", method: pb.Lease_LeaseRevoke_FullMethodName,
		prepare: func(ctx context.Context, admin *clientv3.Client) error { return grant(ctx, admin, 7) },
		call:    func(ctx context.Context, cli *clientv3.Client) error { return second(cli.Revoke(ctx, 7)) },
		raw:     true, state: countLeases,
	},
	{
		name: "MemberAddAsLearner", method: pb.Cluster_MemberAdd_FullMethodName,
		call: func(ctx context.Context, cli *clientv3.Client) error {
			return second(cli.MemberAddAsLearner(ctx, []string{"http://127.0.0.1:1"}))
		},
		raw: true, state: countMembers, rawState: 2, want: 2,
	},
	{
		name: "MemberRemove", method: pb.Cluster_MemberRemove_FullMethodName,
		prepare: func(ctx context.Context, admin *clientv3.Client) error {
			return second(admin.MemberAddAsLearner(ctx, []string{"http://127.0.0.1:1"}))
		},
		call: removeLearner,
		raw:  true, state: countMembers, rawState: 1, want: 1,
	},
	{
		name: "UserAdd", method: pb.Auth_UserAdd_FullMethodName,
		call: func(ctx context.Context, cli *clientv3.Client) error { return second(cli.UserAdd(ctx, "u", "p")) },
		raw:  true, state: countUsers, rawState: 1, want: 1,
	},
	{
		name: "UserDelete", method: pb.Auth_UserDelete_FullMethodName,
		prepare: func(ctx context.Context, admin *clientv3.Client) error { return second(admin.UserAdd(ctx, "u", "p")) },
		call:    func(ctx context.Context, cli *clientv3.Client) error { return second(cli.UserDelete(ctx, "u")) },
		raw:     true, state: countUsers,
	},
	{
		name: "RoleAdd", method: pb.Auth_RoleAdd_FullMethodName,
		call: func(ctx context.Context, cli *clientv3.Client) error { return second(cli.RoleAdd(ctx, "r")) },
		raw:  true, state: countRoles, rawState: 1, want: 1,
	},
	{
		name: "RoleDelete", method: pb.Auth_RoleDelete_FullMethodName,
		prepare: func(ctx context.Context, admin *clientv3.Client) error { return second(admin.RoleAdd(ctx, "r")) },
		call:    func(ctx context.Context, cli *clientv3.Client) error { return second(cli.RoleDelete(ctx, "r")) },
		raw:     true, state: countRoles,
	},
}

func grant(ctx context.Context, admin *clientv3.Client, id int64) error {
	remote := clientv3.RetryLeaseClient(admin)
	return second(remote.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: 60}))
}

func removeLearner(ctx context.Context, cli *clientv3.Client) error {
	list, err := cli.MemberList(ctx)
	if err != nil {
		return err
	}
	for _, m := range list.Members {
		if m.GetIsLearner() {
			return second(cli.MemberRemove(ctx, m.GetID()))
		}
	}
	return errors.New("there is no learner")
}

func countLeases(ctx context.Context, admin *clientv3.Client) (int, error) {
	r, err := admin.Leases(ctx)
	if err != nil {
		return 0, err
	}
	return len(r.Leases), nil
}

func countMembers(ctx context.Context, admin *clientv3.Client) (int, error) {
	r, err := admin.MemberList(ctx)
	if err != nil {
		return 0, err
	}
	return len(r.Members), nil
}

func countUsers(ctx context.Context, admin *clientv3.Client) (int, error) {
	r, err := admin.UserList(ctx)
	if err != nil {
		return 0, err
	}
	return len(r.Users), nil
}

func countRoles(ctx context.Context, admin *clientv3.Client) (int, error) {
	r, err := admin.RoleList(ctx)
	if err != nil {
		return 0, err
	}
	return len(r.Roles), nil
}

// lossesInARow is how many responses in a row are lost.
const lossesInARow = 3

func TestCallsSurviveLostResponses(t *testing.T) {
	t.Parallel()
	for _, l := range lostResponses {
		for _, ours := range []bool{false, true} {
			name := l.name + " by clientv3"
			want := l.rawState
			if ours {
				name, want = l.name+" by Reprise", l.want
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := etcdtest.New(t)
				admin := c.Client(t)
				if l.prepare != nil {
					must(t, l.prepare(soon(t), admin))
				}
				cli := c.Client(t)
				if ours {
					cli = client(t, c.Config())
				}
				_, err := cli.Get(soon(t), "connect")
				must(t, err)
				_, err = c.Inject(etcdtest.Fault{Method: l.method, Calls: lossesInARow, After: true, Answer: etcdtest.Lose()})
				must(t, err)
				if err := l.call(soon(t), cli); (err != nil) != (l.raw && !ours) {
					t.Errorf("got %v", err)
				}
				got, err := l.state(soon(t), admin)
				must(t, err)
				if got != want {
					t.Errorf("counted %d afterwards, want %d", got, want)
				}
			})
		}
	}
}

func TestARefusalThatFollowsNoAmbiguityIsReturned(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := client(t, c.Config())
	must(t, second(cli.UserAdd(soon(t), "u", "p")))
	for name, c := range map[string]struct{ got, want error }{
		"Revoke":     {second(cli.Revoke(soon(t), 7)), rpctypes.ErrLeaseNotFound},
		"UserAdd":    {second(cli.UserAdd(soon(t), "u", "p")), rpctypes.ErrUserAlreadyExist},
		"RoleDelete": {second(cli.RoleDelete(soon(t), "r")), rpctypes.ErrRoleNotFound},
		"Compact":    {second(cli.Compact(soon(t), 1000)), rpctypes.ErrFutureRev},
	} {
		if c.got != c.want { //nolint:errorlint // == is what clientv3's users know
			t.Errorf("%s: %T: %v", name, c.got, c.got)
		}
	}
}
