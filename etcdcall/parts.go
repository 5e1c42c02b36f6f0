package etcdcall

import (
	"context"
	"errors"

	"github.com/reprise-go/reprise/etcdcall/internal/patience"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// Parts are the interfaces of a client that ride on Reprise. They are safe for
// concurrent use.
type Parts struct {
	KV          clientv3.KV
	Watcher     clientv3.Watcher
	Lease       clientv3.Lease
	Cluster     clientv3.Cluster
	Auth        clientv3.Auth
	Maintenance clientv3.Maintenance

	close func()
}

// Close releases what Reprise made: it ends all watches, stops keeping leases
// alive, and releases the records of exactly-once writes and the goroutines
// that keep them. It closes nothing of the client under the parts. Closing
// again does nothing.
func (p *Parts) Close() error {
	err := p.Watcher.Close()
	if p.close != nil {
		p.close()
	}
	return errors.Join(err, p.Lease.Close())
}

// leaseClosing is the Lease of a client, which closes it while the connection
// still stands, and so with it the Parts and what they took the place of.
type leaseClosing struct {
	clientv3.Lease
	parts    *Parts
	replaced clientv3.Lease
}

// Close implements clientv3.Lease.
func (l *leaseClosing) Close() error {
	return errors.Join(l.parts.Close(), l.replaced.Close())
}

// Wrap builds the parts over a client that was made from [Configure], for those
// who keep the client itself as it is. It returns a [*ConfigurationError] for
// any other client, since clientv3's own retry, which sends some writes again
// that may have been applied, cannot be turned off afterwards.
//
// cli is not changed, and stays the caller's to close, after [Parts.Close].
func Wrap(cli *clientv3.Client, opts ...Option) (*Parts, error) {
	if err := checkConfigured(cli); err != nil {
		return nil, err
	}
	set := newSettings(opts)
	if err := set.once.check(); err != nil {
		return nil, err
	}
	return newParts(cli, set), nil
}

func newParts(cli *clientv3.Client, s settings) *Parts {
	p := &policy{settings: s, patience: patience.New(s.attemptTimeout), cli: cli, grpc: grpcOptionsOf(cli)}
	conn := cli.ActiveConnection()
	kv := newKV(p, conn)
	return &Parts{
		KV:          kv,
		Watcher:     newPolicyWatcher(p, conn, kv),
		Lease:       newLease(p, conn),
		Cluster:     newCluster(p, conn),
		Auth:        newAuth(p, conn),
		Maintenance: newMaintenance(p, conn, clientv3.NewMaintenance(cli)),
		close:       kv.close,
	}
}

// grpcOptionsOf returns the gRPC options that cli gives to each call, which it
// keeps to itself: it lets its own request builder make a call that is caught.
func grpcOptionsOf(cli *clientv3.Client) []grpc.CallOption {
	var c optionCatcher
	// The call always fails, by design; its error says nothing.
	_, _ = clientv3.NewKVFromKVClient(&c, cli).Get(context.Background(), "\x00")
	return c.caught
}

type optionCatcher struct {
	pb.KVClient
	caught []grpc.CallOption
}

// Range keeps the options and makes no call.
func (c *optionCatcher) Range(_ context.Context, _ *pb.RangeRequest, opts ...grpc.CallOption) (*pb.RangeResponse, error) {
	c.caught = opts
	return nil, errProbe
}
