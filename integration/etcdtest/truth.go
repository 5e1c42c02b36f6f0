package etcdtest

import (
	"context"
	"math"
	"net"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// truth is a client of one server, and its way to it: a gRPC server of its own,
// whose connection lies in memory. The client in etcd's package v3client would
// call the server's functions, but its calls cannot be ended before the server
// is; see [servers].
type truth struct {
	client *clientv3.Client
	conn   *grpc.ClientConn
	server *grpc.Server
}

func newTruth(s *etcdserver.EtcdServer) (*truth, error) {
	l := bufconn.Listen(64 << 10)
	conn, err := grpc.NewClient("passthrough:///truth",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
	)
	if err != nil {
		return nil, err
	}
	server := v3rpc.Server(s, nil, nil, grpc.WaitForHandlers(true))
	go func() { _ = server.Serve(l) }() // until it is stopped

	c := clientv3.NewCtxClient(context.Background(), clientv3.WithZapLogger(s.Logger()))
	c.KV = clientv3.NewKVFromKVClient(etcdserverpb.NewKVClient(conn), c)
	c.Lease = clientv3.NewLeaseFromLeaseClient(etcdserverpb.NewLeaseClient(conn), c, s.Cfg.ReqTimeout())
	c.Watcher = clientv3.NewWatchFromWatchClient(etcdserverpb.NewWatchClient(conn), c)
	c.Maintenance = clientv3.NewMaintenanceFromMaintenanceClient(etcdserverpb.NewMaintenanceClient(conn), c)
	c.Cluster = clientv3.NewClusterFromClusterClient(etcdserverpb.NewClusterClient(conn), c)
	c.Auth = clientv3.NewAuthFromAuthClient(etcdserverpb.NewAuthClient(conn), c)
	return &truth{client: c, conn: conn, server: server}, nil
}

// close cancels all calls and waits until the server has ended them.
func (t *truth) close() error {
	_ = t.client.Close() // it always says that its context was cancelled
	err := t.conn.Close()
	t.server.Stop()
	return err
}
