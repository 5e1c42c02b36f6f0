package etcdcall

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// Parts are the interfaces of a client that ride on Reprise.
type Parts struct {
	KV      clientv3.KV
	Watcher clientv3.Watcher

	close func()
}

// Close releases what Reprise made: it ends all watches, and releases the
// records of exactly-once writes and the goroutines that keep them. It closes
// nothing of the client under the parts. Closing again does nothing.
func (p *Parts) Close() error {
	err := p.Watcher.Close()
	if p.close != nil {
		p.close()
	}
	return err
}

// leaseClosing is the Lease of a client whose Close, which closes the Lease
// while the connection still stands, is to release something before.
type leaseClosing struct {
	clientv3.Lease
	before func() error
}

// Close implements clientv3.Lease.
func (l *leaseClosing) Close() error {
	return errors.Join(l.before(), l.Lease.Close())
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
	p := &policy{settings: s, cli: cli, grpc: grpcOptionsOf(cli)}
	kv := newKV(p, cli.ActiveConnection())
	return &Parts{KV: kv, Watcher: newPolicyWatcher(p, cli.ActiveConnection(), kv), close: kv.close}
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
