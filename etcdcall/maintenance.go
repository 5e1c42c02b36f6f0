package etcdcall

import (
	"context"
	"errors"
	"fmt"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/etcdstub"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// maintenance is the clientv3.Maintenance of this package. The methods that
// name an endpoint dial it, as clientv3's do, once for all attempts of a call;
// the snapshots are clientv3's.
type maintenance struct {
	clientv3.Maintenance
	policy     *policy
	alarm      bound[pb.AlarmRequest, pb.AlarmResponse]
	moveLeader bound[pb.MoveLeaderRequest, pb.MoveLeaderResponse]
	downgrade  bound[pb.DowngradeRequest, pb.DowngradeResponse]
}

func newMaintenance(p *policy, conn grpc.ClientConnInterface, snapshots clientv3.Maintenance) *maintenance {
	calls := newMaintenanceService(p, conn)
	return &maintenance{
		Maintenance: snapshots,
		policy:      p,
		alarm:       bindMethod(&calls, pb.Maintenance_Alarm_FullMethodName, (*etcdstub.MaintenanceClient).Alarm),
		moveLeader:  bindMethod(&calls, pb.Maintenance_MoveLeader_FullMethodName, (*etcdstub.MaintenanceClient).MoveLeader),
		downgrade:   bindMethod(&calls, pb.Maintenance_Downgrade_FullMethodName, (*etcdstub.MaintenanceClient).Downgrade),
	}
}

// AlarmList implements clientv3.Maintenance. Unlike what else its method does, it
// is a read.
func (m *maintenance) AlarmList(ctx context.Context) (*clientv3.AlarmResponse, error) {
	resp, err := m.alarm.call(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET}, reprise.WithRetry(m.policy.retryReads))
	return (*clientv3.AlarmResponse)(resp), readError(err)
}

// AlarmDisarm implements clientv3.Maintenance. The zero AlarmMember stands for
// all alarms that are raised.
func (m *maintenance) AlarmDisarm(ctx context.Context, am *clientv3.AlarmMember) (*clientv3.AlarmResponse, error) {
	if am == nil {
		return nil, errors.New("etcdcall: AlarmDisarm was given no alarm")
	}
	if am.MemberID != 0 || am.Alarm != pb.AlarmType_NONE {
		return m.disarm(ctx, am.MemberID, am.Alarm)
	}
	raised, err := m.AlarmList(ctx)
	if err != nil {
		return nil, err
	}
	all := &clientv3.AlarmResponse{}
	for _, a := range raised.Alarms {
		resp, err := m.disarm(ctx, a.GetMemberID(), a.GetAlarm())
		if err != nil {
			return nil, err
		}
		all.Alarms = append(all.Alarms, resp.Alarms...)
	}
	return all, nil
}

func (m *maintenance) disarm(ctx context.Context, member uint64, alarm pb.AlarmType) (*clientv3.AlarmResponse, error) {
	resp, err := m.alarm.do(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: member, Alarm: alarm})
	return (*clientv3.AlarmResponse)(resp), err
}

// MoveLeader implements clientv3.Maintenance. It is a blind write.
func (m *maintenance) MoveLeader(ctx context.Context, to uint64) (*clientv3.MoveLeaderResponse, error) {
	resp, err := m.moveLeader.do(ctx, &pb.MoveLeaderRequest{TargetID: to})
	return (*clientv3.MoveLeaderResponse)(resp), err
}

// Downgrade implements clientv3.Maintenance. It is a blind write.
func (m *maintenance) Downgrade(ctx context.Context, action clientv3.DowngradeAction, version string) (*clientv3.DowngradeResponse, error) {
	switch action {
	case clientv3.DowngradeValidate, clientv3.DowngradeEnable, clientv3.DowngradeCancel:
	default:
		return nil, fmt.Errorf("etcdcall: unknown downgrade action %d", action)
	}
	resp, err := m.downgrade.do(ctx, &pb.DowngradeRequest{Action: pb.DowngradeRequest_DowngradeAction(action), Version: version})
	return (*clientv3.DowngradeResponse)(resp), err
}

// Status implements clientv3.Maintenance. It is answered by endpoint, which
// needs no leader for it.
func (m *maintenance) Status(ctx context.Context, endpoint string) (*clientv3.StatusResponse, error) {
	resp, err := at(ctx, m.policy, endpoint, pb.Maintenance_Status_FullMethodName, (*etcdstub.MaintenanceClient).Status, &pb.StatusRequest{})
	return (*clientv3.StatusResponse)(resp), err
}

// HashKV implements clientv3.Maintenance. It is answered by endpoint, which
// needs no leader for it.
func (m *maintenance) HashKV(ctx context.Context, endpoint string, rev int64) (*clientv3.HashKVResponse, error) {
	resp, err := at(ctx, m.policy, endpoint, pb.Maintenance_HashKV_FullMethodName, (*etcdstub.MaintenanceClient).HashKV, &pb.HashKVRequest{Revision: rev})
	return (*clientv3.HashKVResponse)(resp), err
}

// Defragment implements clientv3.Maintenance. It is done by endpoint, and sent
// again only if it was not begun: a member does nothing else while it lasts.
func (m *maintenance) Defragment(ctx context.Context, endpoint string) (*clientv3.DefragmentResponse, error) {
	resp, err := at(ctx, m.policy, endpoint, pb.Maintenance_Defragment_FullMethodName, (*etcdstub.MaintenanceClient).Defragment, &pb.DefragmentRequest{})
	return (*clientv3.DefragmentResponse)(resp), err
}

// at makes a call to one endpoint, over a connection of its own.
func at[Req, Resp any](
	ctx context.Context, p *policy, endpoint, method string,
	call func(*etcdstub.MaintenanceClient, context.Context, *Req, ...reprise.CallOption) (*Resp, error), req *Req,
) (*Resp, error) {
	conn, err := p.cli.Dial(endpoint)
	if err != nil {
		return nil, fmt.Errorf("etcdcall: dialing %s: %w", endpoint, err)
	}
	defer func() { _ = conn.Close() }() // its only call has ended
	calls := newMaintenanceService(p, conn)
	b := bindMethod(&calls, method, call)
	return b.do(ctx, req)
}
