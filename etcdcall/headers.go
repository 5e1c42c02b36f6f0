package etcdcall

import (
	"context"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/api/v3/version"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// The metadata of nearly all calls is the same: the version of the API, and that
// a leader is required. These contexts hold it for all of them.
var (
	ledHeaders = metadata.AppendToOutgoingContext(context.Background(),
		rpctypes.MetadataClientAPIVersionKey, version.APIVersion,
		rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader,
	)
	plainHeaders = metadata.AppendToOutgoingContext(context.Background(),
		rpctypes.MetadataClientAPIVersionKey, version.APIVersion,
	)
)

// headers returns the metadata of attempts whose calls bring none of their own.
func (p *policy) headers(leader bool) context.Context {
	switch {
	case fetchesTokens(p.cli.Username, p.cli.Password):
		return nil
	case leader:
		return ledHeaders
	default:
		return plainHeaders
	}
}

func hasHeaders(ctx context.Context) bool {
	_, ok := metadata.FromOutgoingContext(ctx)
	return ok
}

// recordVersioned is recordAttempt for connections without clientv3's
// interceptor of unary calls, in whose place it tells servers the version of the
// API.
func recordVersioned(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if record, ok := ctx.(*attempt); ok && record.headers != nil && record.untouched(opts) {
		return record.send(method, req, reply, cc, invoker, opts)
	}
	if record, _ := ctx.Value(attemptKey{}).(*attempt); record == nil || record.headers == nil {
		md, ok := metadata.FromOutgoingContext(ctx)
		if !ok {
			md = metadata.MD{}
		}
		md.Set(rpctypes.MetadataClientAPIVersionKey, version.APIVersion)
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	return recordAttempt(ctx, method, req, reply, cc, invoker, opts...)
}

// fetchesTokens reports whether clientv3 gets tokens for the calls of a client.
// Its interceptor of unary calls does so; it is all that it does here, apart from
// telling servers the version of the API.
func fetchesTokens(username, password string) bool { return username != "" && password != "" }
