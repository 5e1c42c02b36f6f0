package etcdcall

import (
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// New returns a clientv3.Client whose interfaces ride on Reprise: reads are
// retried through every failure that may pass, writes exactly when they
// certainly were not applied or may be applied twice, and a write whose outcome
// is unknown ends with an [AmbiguousError]; watches resume where they were (see
// [Watch]), and leases that are kept alive end no later than on the server (see
// [LeaseKeeper]). docs/etcd-errors.md has the policy of each method. All else of
// the client works as from clientv3.New, including the token refresh and
// AutoSyncInterval.
//
// The configuration is changed as [Configure] describes. Close the client to
// release what New made; closing it twice is harmless. The client is safe for
// concurrent use.
func New(cfg clientv3.Config, opts ...Option) (*clientv3.Client, error) {
	set := newSettings(opts)
	if err := set.once.check(); err != nil {
		return nil, err
	}
	cfg = Configure(cfg, opts...)
	// The sync reads fields of the client that are replaced below, so it must
	// not run before that is done.
	every := cfg.AutoSyncInterval
	cfg.AutoSyncInterval = 0
	cli, err := clientv3.New(cfg)
	if err != nil {
		return nil, err
	}
	parts := newParts(cli, set)
	replaced := cli.Watcher
	cli.KV, cli.Watcher, cli.Cluster = parts.KV, parts.Watcher, parts.Cluster
	cli.Auth, cli.Maintenance = parts.Auth, parts.Maintenance
	_ = replaced.Close() // it has no watch yet
	cli.Lease = &leaseClosing{Lease: parts.Lease, parts: parts, replaced: cli.Lease}
	if every > 0 {
		go autoSync(cli, every)
	}
	return cli, nil
}

// Configure returns the configuration for a client on which [Wrap] can build.
// It differs from cfg in this:
//   - clientv3's own retry makes one attempt (MaxUnaryRetries 1), so that
//     attempts do not multiply; its token refresh stays. Without a Username and
//     Password, for which it would fetch tokens, its interceptor of unary calls
//     is left out;
//   - a member that cannot be reached is tried again after 0.1 s, then more
//     slowly, but at least every 2 s, where gRPC lets it go up to 2 minutes; an
//     own grpc.WithConnectParams in DialOptions holds instead;
//   - [DialOptions] are appended to DialOptions;
//   - without a DialKeepAliveTime, [DefaultKeepAliveTime] and
//     [DefaultKeepAliveTimeout] are set, so that calls on a dead connection end
//     after seconds and not after the quarter of an hour that TCP takes;
//   - without a Logger or LogConfig, it logs where [WithLogger] says, and
//     nothing by default: what went wrong is in the error that the caller gets.
//
// cfg itself is not changed. A client made of the result alone calls as
// clientv3 does, with one attempt.
func Configure(cfg clientv3.Config, opts ...Option) clientv3.Config {
	set := newSettings(opts)
	cfg.MaxUnaryRetries = 1
	before, after := []grpc.DialOption{grpc.WithConnectParams(reconnection)}, DialOptions()
	if !fetchesTokens(cfg.Username, cfg.Password) {
		before = append(before, grpc.WithUnaryInterceptor(nil)) // in place of clientv3's
		after = dialOptions(recordVersioned)
	}
	cfg.DialOptions = slices.Concat(before, cfg.DialOptions, after)
	if cfg.DialKeepAliveTime == 0 {
		cfg.DialKeepAliveTime = DefaultKeepAliveTime
		if cfg.DialKeepAliveTimeout == 0 {
			cfg.DialKeepAliveTimeout = DefaultKeepAliveTimeout
		}
	}
	if cfg.Logger == nil && cfg.LogConfig == nil {
		cfg.Logger = set.zapLogger()
	}
	return cfg
}

// reconnection suits members that come back: a watch or a lease cannot wait for
// the pauses that gRPC makes by default, which grow from 1 s to 2 minutes.
var reconnection = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
	MinConnectTimeout: 5 * time.Second,
}
