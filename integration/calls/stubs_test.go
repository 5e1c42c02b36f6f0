package calls_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/etcdstub"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// stubs are the generated clients of the six services, as they are by default.
type stubs struct {
	kv          *etcdstub.KVClient
	watch       *etcdstub.WatchClient
	lease       *etcdstub.LeaseClient
	cluster     *etcdstub.ClusterClient
	maintenance *etcdstub.MaintenanceClient
	auth        *etcdstub.AuthClient
}

func newStubs(t *testing.T, c *etcdtest.Cluster) *stubs {
	t.Helper()
	conn, err := grpc.NewClient(c.Member(0).ClientLink().Addr(),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &stubs{
		kv:          etcdstub.NewKVClient(pb.NewKVClient(conn), nil),
		watch:       etcdstub.NewWatchClient(pb.NewWatchClient(conn), nil),
		lease:       etcdstub.NewLeaseClient(pb.NewLeaseClient(conn), nil),
		cluster:     etcdstub.NewClusterClient(pb.NewClusterClient(conn), nil),
		maintenance: etcdstub.NewMaintenanceClient(pb.NewMaintenanceClient(conn), nil),
		auth:        etcdstub.NewAuthClient(pb.NewAuthClient(conn), nil),
	}
}

// stubCall is a call of one method.
type stubCall struct {
	method string
	call   func(context.Context) error
	retry  bool // it may be tried again by default
}

// of makes a stubCall.
func of[Req, Resp any](
	method string, retry bool,
	call func(context.Context, *Req, ...reprise.CallOption) (*Resp, error), req *Req,
) stubCall {
	return stubCall{method: method, retry: retry, call: func(ctx context.Context) error {
		_, err := call(ctx, req)
		return err
	}}
}

func (s *stubs) calls() []stubCall {
	key, lease := []byte("key"), int64(7)
	return []stubCall{
		of(pb.KV_Put_FullMethodName, false, s.kv.Put, &pb.PutRequest{Key: key}),
		of(pb.KV_Range_FullMethodName, true, s.kv.Range, &pb.RangeRequest{Key: key}),
		{pb.KV_RangeStream_FullMethodName, s.rangeStream, true},
		of(pb.KV_Txn_FullMethodName, false, s.kv.Txn, &pb.TxnRequest{}),
		of(pb.KV_DeleteRange_FullMethodName, false, s.kv.DeleteRange, &pb.DeleteRangeRequest{Key: key}),
		of(pb.Lease_LeaseGrant_FullMethodName, false, s.lease.LeaseGrant, &pb.LeaseGrantRequest{ID: lease, TTL: 60}),
		of(pb.Lease_LeaseTimeToLive_FullMethodName, true, s.lease.LeaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: lease}),
		of(pb.Lease_LeaseLeases_FullMethodName, true, s.lease.LeaseLeases, &pb.LeaseLeasesRequest{}),
		{pb.Lease_LeaseKeepAlive_FullMethodName, s.keepAlive, false},
		of(pb.Lease_LeaseRevoke_FullMethodName, false, s.lease.LeaseRevoke, &pb.LeaseRevokeRequest{ID: lease}),
		{pb.Watch_Watch_FullMethodName, s.watchOnce, false},
		of(pb.Cluster_MemberList_FullMethodName, true, s.cluster.MemberList, &pb.MemberListRequest{}),
		of(pb.Maintenance_Status_FullMethodName, true, s.maintenance.Status, &pb.StatusRequest{}),
		of(pb.Maintenance_Hash_FullMethodName, true, s.maintenance.Hash, &pb.HashRequest{}),
		of(pb.Maintenance_HashKV_FullMethodName, true, s.maintenance.HashKV, &pb.HashKVRequest{}),
		of(pb.Maintenance_Alarm_FullMethodName, false, s.maintenance.Alarm, &pb.AlarmRequest{}),
		of(pb.Auth_AuthStatus_FullMethodName, true, s.auth.AuthStatus, &pb.AuthStatusRequest{}),
		of(pb.Auth_RoleAdd_FullMethodName, false, s.auth.RoleAdd, &pb.AuthRoleAddRequest{Name: "reader"}),
		of(pb.Auth_RoleGet_FullMethodName, true, s.auth.RoleGet, &pb.AuthRoleGetRequest{Role: "reader"}),
		of(pb.Auth_RoleList_FullMethodName, true, s.auth.RoleList, &pb.AuthRoleListRequest{}),
		of(pb.Auth_UserList_FullMethodName, true, s.auth.UserList, &pb.AuthUserListRequest{}),
	}
}

func (s *stubs) rangeStream(ctx context.Context) error {
	stream, err := s.kv.RangeStream(ctx, &pb.RangeRequest{Key: []byte("key")})
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (s *stubs) keepAlive(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.lease.LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: 7}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err = stream.Recv()
	return err
}

func (s *stubs) watchOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.watch.Watch(ctx)
	if err != nil {
		return err
	}
	create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte("key")},
	}}
	if err := stream.Send(create); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err = stream.Recv()
	return err
}

func TestTheGeneratedStubsRetryReadsAloneOnARealServer(t *testing.T) {
	c := etcdtest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, tt := range newStubs(t, c).calls() {
		const failures = 2
		in, err := c.Inject(etcdtest.Fault{
			Method: tt.method, Calls: failures, Answer: etcdtest.Fail(status.Error(codes.Unavailable, "away")),
		})
		if err != nil {
			t.Fatal(err)
		}
		err = tt.call(ctx)
		in.Stop()
		switch {
		case tt.retry && (err != nil || in.Fired() != failures):
			t.Errorf("%s: got %v after %d failures, want success after %d", tt.method, err, in.Fired(), failures)
		case !tt.retry && (status.Code(err) != codes.Unavailable || in.Fired() != 1):
			t.Errorf("%s: got %v after %d failures, want the first of them", tt.method, err, in.Fired())
		}
		if err := tt.call(ctx); err != nil {
			t.Errorf("%s: without a fault: %v", tt.method, err)
		}
	}
}
