package drill

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
)

// A Contender is a way to call etcd.
type Contender struct {
	Name string
	// Connect makes a client that may keep records under prefix. It need not
	// reach anybody.
	Connect func(cfg clientv3.Config, prefix string) (*clientv3.Client, error)
	// Sit makes a session, to contend for a lock and an election of a name.
	Sit func(ctx context.Context, cli *clientv3.Client, prefix string) (*seat, error)
}

// Names of the two sides.
const (
	Reprise  = "reprise"
	Clientv3 = "clientv3"
)

// contenders returns both sides. The first is the one that is judged.
func contenders(cfg *Config) []Contender {
	return []Contender{
		{Name: Reprise, Sit: sitWithReprise, Connect: func(c clientv3.Config, prefix string) (*clientv3.Client, error) {
			var opts []etcdcall.Option
			if cfg.ExactlyOnce {
				opts = append(opts, etcdcall.WithExactlyOnce(prefix))
			}
			if cfg.Target == nil {
				// The defaults suit the default election timeout of etcd, 1 s.
				opts = append(opts,
					etcdcall.WithAttemptTimeout(5*electionTimeout),
					etcdcall.WithBackoff(reprise.Backoff{Initial: electionTimeout / 40, Max: electionTimeout, Multiplier: 2}),
				)
			}
			return etcdcall.New(c, opts...)
		}},
		{Name: Clientv3, Sit: sitWithClientv3, Connect: func(c clientv3.Config, _ string) (*clientv3.Client, error) {
			return clientv3.New(c)
		}},
	}
}

// sendsKey is where a call's context carries the counter of its attempts.
type sendsKey struct{}

// countSends makes every attempt of a call count itself. clientv3 and Reprise
// both run interceptors of the connection once for each attempt.
func countSends() grpc.DialOption {
	return grpc.WithChainUnaryInterceptor(func(
		ctx context.Context, method string, req, reply any,
		cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		if n, ok := ctx.Value(sendsKey{}).(*atomic.Int32); ok {
			n.Add(1)
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	})
}
