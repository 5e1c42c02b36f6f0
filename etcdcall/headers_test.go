package etcdcall

import (
	"context"
	"maps"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/api/v3/version"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

func TestServersAreToldTheVersionAndThatALeaderIsRequired(t *testing.T) {
	t.Parallel()
	received := make(chan metadata.MD, 1)
	s := startScripted(t, func(ctx context.Context, method string, _ int, _ any) (any, error) {
		if method == pb.Auth_Authenticate_FullMethodName {
			return &pb.AuthenticateResponse{Token: "token"}, nil
		}
		md, _ := metadata.FromIncomingContext(ctx)
		received <- md
		return success(method), nil
	})
	own := func(ctx context.Context) context.Context { return metadata.AppendToOutgoingContext(ctx, "own", "1") }
	adding := grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return invoker(own(ctx), method, req, reply, cc, opts...)
	})
	old := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataClientAPIVersionKey, "3.0")
	}
	same := func(ctx context.Context) context.Context { return ctx }

	versioned := map[string]string{rpctypes.MetadataClientAPIVersionKey: version.APIVersion}
	led := with(versioned, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	for name, c := range map[string]struct {
		cfg     clientv3.Config
		opts    []Option
		ctx     func(context.Context) context.Context
		get     []clientv3.OpOption
		outside bool // of the interfaces that etcdcall makes
		want    map[string]string
	}{
		"as it comes":            {ctx: same, want: led},
		"own metadata":           {ctx: own, want: with(led, "own", "1")},
		"own interceptor":        {cfg: clientv3.Config{DialOptions: []grpc.DialOption{adding}}, ctx: same, want: with(led, "own", "1")},
		"another version":        {ctx: old, want: led},
		"serializable":           {ctx: same, get: []clientv3.OpOption{clientv3.WithSerializable()}, want: versioned},
		"without a leader":       {ctx: same, opts: []Option{WithoutRequireLeader()}, want: versioned},
		"leader asked for":       {ctx: clientv3.WithRequireLeader, opts: []Option{WithoutRequireLeader()}, want: led},
		"tokens":                 {cfg: clientv3.Config{Username: "u", Password: "p"}, ctx: same, want: with(led, "token", "token")},
		"tokens, own metadata":   {cfg: clientv3.Config{Username: "u", Password: "p"}, ctx: own, want: with(led, "token", "token", "own", "1")},
		"clientv3's KV":          {ctx: same, outside: true, want: versioned},
		"clientv3's KV, with md": {ctx: own, outside: true, want: with(versioned, "own", "1")},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Endpoints = []string{s.addr}
			cli := newClient(t, c.cfg, c.opts...)
			var kv clientv3.KV = cli
			if c.outside {
				kv = clientv3.NewKV(cli)
			}
			for range 2 { // the second call finds the headers as the first did
				if _, err := kv.Get(c.ctx(within5s(t)), "k", c.get...); err != nil {
					t.Fatal(err)
				}
				md := <-received
				for key, want := range c.want {
					if got := md.Get(key); !slices.Equal(got, []string{want}) {
						t.Errorf("%s is %q, want %q", key, got, want)
					}
				}
				for _, key := range []string{rpctypes.MetadataRequireLeaderKey, "own", "token"} {
					if _, ok := c.want[key]; !ok && len(md.Get(key)) > 0 {
						t.Errorf("%s is %q", key, md.Get(key))
					}
				}
			}
		})
	}
}

// with returns a copy of m with more pairs in it.
func with(m map[string]string, pairs ...string) map[string]string {
	m = maps.Clone(m)
	for pair := range slices.Chunk(pairs, 2) {
		m[pair[0]] = pair[1]
	}
	return m
}
