package etcdcall

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/reprise-go/reprise"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestEveryMethodOfEtcdHasARow(t *testing.T) {
	t.Parallel()
	served := map[string]bool{}
	for _, desc := range []grpc.ServiceDesc{
		pb.KV_ServiceDesc, pb.Watch_ServiceDesc, pb.Lease_ServiceDesc,
		pb.Cluster_ServiceDesc, pb.Maintenance_ServiceDesc, pb.Auth_ServiceDesc,
	} {
		for _, m := range desc.Methods {
			name := "/" + desc.ServiceName + "/" + m.MethodName
			served[name] = true
			if row := methods[name]; row == nil || row.class == stream {
				t.Errorf("%s: row %+v", name, row)
			}
		}
		for _, s := range desc.Streams {
			name := "/" + desc.ServiceName + "/" + s.StreamName
			served[name] = true
			if row := methods[name]; row == nil || row.class != stream {
				t.Errorf("%s: row %+v", name, row)
			}
		}
	}
	for i := range methodTable {
		row := &methodTable[i]
		if !served[row.name] {
			t.Errorf("etcd has no method %s", row.name)
		}
		if row.done != "" && (row.class != idempotentWrite || serverByName(row.done) == nil) {
			t.Errorf("%s: %s is no answer that means done", row.name, row.done)
		}
	}
	if len(methods) != len(methodTable) {
		t.Error("a method stands twice")
	}
}

func serverByName(name string) *rule {
	for i := range serverRules {
		if serverRules[i].name == name {
			return &serverRules[i]
		}
	}
	return nil
}

// otherCall is a unary call of another interface than KV.
type otherCall struct {
	method string
	call   func(ctx context.Context, cli *clientv3.Client) error
	reads  bool // by a method that writes otherwise
}

func (c *otherCall) class() class {
	if c.reads {
		return read
	}
	return methods[c.method].class
}

var otherCalls = []otherCall{
	{pb.Lease_LeaseGrant_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.Grant(ctx, 5)) }, false},
	{pb.Lease_LeaseRevoke_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.Revoke(ctx, 5)) }, false},
	{pb.Lease_LeaseTimeToLive_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.TimeToLive(ctx, 5)) }, false},
	{pb.Lease_LeaseLeases_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.Leases(ctx)) }, false},
	{pb.Cluster_MemberAdd_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error {
		return second(cli.MemberAdd(ctx, []string{"http://127.0.0.1:1"}))
	}, false},
	{pb.Cluster_MemberAdd_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error {
		return second(cli.MemberAddAsLearner(ctx, []string{"http://127.0.0.1:1"}))
	}, false},
	{pb.Cluster_MemberRemove_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.MemberRemove(ctx, 5)) }, false},
	{pb.Cluster_MemberUpdate_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error {
		return second(cli.MemberUpdate(ctx, 5, []string{"http://127.0.0.1:1"}))
	}, false},
	{pb.Cluster_MemberPromote_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.MemberPromote(ctx, 5)) }, false},
	{pb.Cluster_MemberList_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.MemberList(ctx)) }, false},
	{pb.Auth_AuthEnable_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.AuthEnable(ctx)) }, false},
	{pb.Auth_AuthDisable_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.AuthDisable(ctx)) }, false},
	{pb.Auth_AuthStatus_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.AuthStatus(ctx)) }, false},
	{pb.Auth_UserAdd_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.UserAdd(ctx, "u", "p")) }, false},
	{pb.Auth_UserGet_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.UserGet(ctx, "u")) }, false},
	{pb.Auth_UserList_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.UserList(ctx)) }, false},
	{pb.Auth_UserDelete_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.UserDelete(ctx, "u")) }, false},
	{pb.Auth_UserChangePassword_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error {
		return second(cli.UserChangePassword(ctx, "u", "p"))
	}, false},
	{pb.Auth_UserGrantRole_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error {
		return second(cli.UserGrantRole(ctx, "u", "r"))
	}, false},
	{pb.Auth_UserRevokeRole_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error {
		return second(cli.UserRevokeRole(ctx, "u", "r"))
	}, false},
	{pb.Auth_RoleAdd_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.RoleAdd(ctx, "r")) }, false},
	{pb.Auth_RoleGet_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.RoleGet(ctx, "r")) }, false},
	{pb.Auth_RoleList_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.RoleList(ctx)) }, false},
	{pb.Auth_RoleDelete_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.RoleDelete(ctx, "r")) }, false},
	{pb.Auth_RoleGrantPermission_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error {
		return second(cli.RoleGrantPermission(ctx, "r", "a", "b", clientv3.PermissionType(clientv3.PermRead)))
	}, false},
	{pb.Auth_RoleRevokePermission_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error {
		return second(cli.RoleRevokePermission(ctx, "r", "a", "b"))
	}, false},
	{pb.Maintenance_Alarm_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.AlarmList(ctx)) }, true},
	{pb.Maintenance_Alarm_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error {
		return second(cli.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: 1, Alarm: pb.AlarmType_NOSPACE}))
	}, false},
	{pb.Maintenance_Status_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error {
		return second(cli.Status(ctx, cli.Endpoints()[0]))
	}, false},
	{pb.Maintenance_HashKV_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error {
		return second(cli.HashKV(ctx, cli.Endpoints()[0], 0))
	}, false},
	{pb.Maintenance_Defragment_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error {
		return second(cli.Defragment(ctx, cli.Endpoints()[0]))
	}, false},
	{pb.Maintenance_MoveLeader_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error { return second(cli.MoveLeader(ctx, 5)) }, false},
	{pb.Maintenance_Downgrade_FullMethodName, func(ctx context.Context, cli *clientv3.Client) error {
		return second(cli.Downgrade(ctx, clientv3.DowngradeCancel, ""))
	}, false},
}

func second[T any](_ T, err error) error { return err }

func shortName(method string) string { return method[strings.LastIndexByte(method, '/')+1:] }

func TestEveryCallEndsAtItsDeadlineWithWhatIsKnown(t *testing.T) {
	t.Parallel()
	s := startScripted(t, func(ctx context.Context, _ string, _ int, _ any) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	cli := connected(t, s.client(t))
	var all sync.WaitGroup
	for _, c := range otherCalls {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), enough)
			defer cancel()
			err := c.call(ctx, cli)
			// The server's own timer may go off a moment before the client's.
			if !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("%s: the deadline is not found in %v", c.method, err)
			}
			var a *AmbiguousError
			var stopped *reprise.Error
			if c.class() == read {
				if errors.As(err, &a) || !errors.As(err, &stopped) {
					t.Errorf("%s: a read ended with %T: %v", c.method, err, err)
				}
			} else if !errors.As(err, &a) || a.Method != c.method || OutcomeOf(err) != Unknown {
				t.Errorf("%s: a write ended with %T: %v", c.method, err, err)
			}
		})
	}
	all.Wait()
}

func TestEveryCallIsMadeAgainAsItsRowSays(t *testing.T) {
	t.Parallel()
	for _, c := range otherCalls {
		t.Run(shortName(c.method), func(t *testing.T) {
			t.Parallel()
			row, class := methods[c.method], c.class()
			var asked []bool
			s := startScripted(t, func(ctx context.Context, method string, n int, _ any) (any, error) {
				if method != c.method {
					return nil, status.Error(codes.Aborted, "not expected")
				}
				md, _ := metadata.FromIncomingContext(ctx)
				asked = append(asked, len(md.Get(rpctypes.MetadataRequireLeaderKey)) == 1)
				switch n {
				case 1:
					return nil, rpctypes.ErrGRPCUnhealthy // not applied
				case 2:
					return nil, status.Error(codes.Unavailable, "reset") // unknown
				default:
					return nil, rpctypes.ErrGRPCRequestTooLarge
				}
			})
			err := c.call(within5s(t), s.client(t))
			want := 3
			if class == blindWrite {
				want = 2
			}
			if got := s.count(c.method); got != want {
				t.Errorf("%d attempts, want %d: %v", got, want, err)
			}
			var a *AmbiguousError
			if errors.As(err, &a) != (class != read) {
				t.Errorf("got %T: %v", err, err)
			}
			for _, leader := range asked {
				if leader != (row.leader != leaderNever) {
					t.Errorf("asked for a leader: %v", asked)
				}
			}
		})
	}
}
