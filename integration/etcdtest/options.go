package etcdtest

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// Option adjusts the cluster that [New] and [Start] make.
type Option func(*options)

type options struct {
	members     int
	tick        time.Duration
	election    time.Duration
	dir         string
	logger      *zap.Logger
	grpc        []grpc.ServerOption
	configure   []func(*embed.Config)
	tls         bool
	clientCerts bool
	password    string
}

// WithMembers sets how many members the cluster has. The default is one.
func WithMembers(n int) Option {
	return func(o *options) { o.members = n }
}

// WithTick sets the heartbeat interval of raft and the time without a
// heartbeat after which a member stands for election. The defaults, 10 ms and
// 100 ms, make a new leader appear within some 200 ms of the old one's death;
// etcd's own defaults are 100 ms and 1 s. etcd wants the election timeout to
// be at least five times the tick.
func WithTick(tick, election time.Duration) Option {
	return func(o *options) { o.tick, o.election = tick, election }
}

// WithDir sets the directory under which the cluster makes its temporary
// directory. The default is /dev/shm where that is writable, otherwise what
// [os.TempDir] says.
func WithDir(dir string) Option {
	return func(o *options) { o.dir = dir }
}

// WithLogger makes the members log to l. By default they are silent.
func WithLogger(l *zap.Logger) Option {
	return func(o *options) { o.logger = l }
}

// WithServerOptions adds options to the gRPC server of each member, for
// interceptors of the test's own. They run inside etcd's own interceptors and
// outside the faults of [Cluster.Inject].
func WithServerOptions(opts ...grpc.ServerOption) Option {
	return func(o *options) { o.grpc = append(o.grpc, opts...) }
}

// WithServerConfig calls f with the configuration of a member each time before
// it starts, for settings that have no option here, such as QuotaBackendBytes
// or AuthTokenTTL. The addresses, the directory and the name must stay as they
// are; listeners for clients may be added that are not on TCP.
func WithServerConfig(f func(cfg *embed.Config)) Option {
	return func(o *options) { o.configure = append(o.configure, f) }
}

// WithTLS makes clients talk TLS to the members, with certificates of an
// authority made for this cluster; [Cluster.Config] and [Cluster.TLS] carry
// what a client needs. A [Link] cannot see HTTP/2 frames then, so that
// [Link.LoseResponse], [Link.ResetStreams] and the answer [ResetStream] return
// [ErrEncrypted].
func WithTLS() Option {
	return func(o *options) { o.tls = true }
}

// WithClientCertificates is [WithTLS], and the members ask every client for a
// certificate. Under authentication the certificate's common name is the
// user's name; [Cluster.ClientTLS] issues one for any name.
func WithClientCertificates() Option {
	return func(o *options) { o.tls, o.clientCerts = true, true }
}

// WithAuth turns authentication on, with a user root who has the given
// password and the role root. [Cluster.Config] carries that name and password.
// Passwords are always hashed at the lowest cost that there is;
// [WithServerConfig] can set BcryptCost to another.
func WithAuth(rootPassword string) Option {
	return func(o *options) { o.password = rootPassword }
}

func resolve(opts []Option) (*options, error) {
	o := &options{
		members:  1,
		tick:     10 * time.Millisecond,
		election: 100 * time.Millisecond,
		logger:   zap.NewNop(),
	}
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("etcdtest: an option is nil")
		}
		opt(o)
	}
	if o.members < 1 || o.members > maxMembers {
		return nil, fmt.Errorf("etcdtest: %d members: want 1 to %d", o.members, maxMembers)
	}
	if o.tick < time.Millisecond || o.election < 5*o.tick {
		return nil, fmt.Errorf("etcdtest: tick %v, election %v: want a tick of 1ms or more and an election of 5 ticks or more", o.tick, o.election)
	}
	if o.logger == nil {
		o.logger = zap.NewNop()
	}
	return o, nil
}

// maxMembers is what etcd advises at most for one cluster.
const maxMembers = 7
