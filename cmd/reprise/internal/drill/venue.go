package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// A venue is the cluster that one side runs on.
type venue struct {
	config  clientv3.Config
	prefix  string
	cluster *etcdtest.Cluster // nil on a cluster of the user's own
	own     *clientv3.Client  // nil on a cluster in the process
	first   int64             // the revision after which the drill's writes come
}

// Heartbeat and election timeout of the members: short, so that the drill sees
// many elections, yet long enough that a busy machine does not start them by
// itself.
const (
	tick            = 25 * time.Millisecond
	electionTimeout = 250 * time.Millisecond
)

// Times that reaching a cluster, getting ready on it and clean-up may take.
const (
	reachTime   = 5 * time.Second
	warmUpTime  = 20 * time.Second
	cleanUpTime = 10 * time.Second
)

var (
	errNoAnswer = fmt.Errorf("no answer within %v", reachTime)
	errNotWarm  = fmt.Errorf("no answer to a first write within %v", warmUpTime)
)

func open(ctx context.Context, cfg *Config, side string) (*venue, error) {
	if cfg.Target != nil {
		return openTarget(ctx, cfg.Target, side)
	}
	c, err := etcdtest.Start(ctx, etcdtest.WithMembers(3), etcdtest.WithTick(tick, electionTimeout))
	if err != nil {
		return nil, err
	}
	return &venue{config: c.Config(), prefix: "drill/", cluster: c}, nil
}

// openTarget reaches the user's cluster, within reachTime.
func openTarget(ctx context.Context, t *Target, side string) (*venue, error) {
	if err := reach(ctx, t); err != nil {
		return nil, fmt.Errorf("endpoints %v: %w", t.Client.Endpoints, err)
	}
	cli, err := clientv3.New(t.Client)
	if err != nil {
		return nil, fmt.Errorf("endpoints %v: %w", t.Client.Endpoints, err)
	}
	v := &venue{config: t.Client, prefix: t.Prefix + side + "/", own: cli}
	ctx, cancel := context.WithTimeoutCause(ctx, reachTime, errNoAnswer)
	defer cancel()
	r, err := cli.Get(ctx, v.prefix, clientv3.WithPrefix(), clientv3.WithLimit(1))
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, errors.Join(fmt.Errorf("endpoints %v: %w", t.Client.Endpoints, err), ignoreCancel(cli.Close()))
	}
	if r.Count > 0 {
		return nil, errors.Join(fmt.Errorf("there are keys under %q already: choose another prefix", v.prefix), ignoreCancel(cli.Close()))
	}
	v.first = r.Header.Revision
	return v, nil
}

// reach returns nil if a member answers at the endpoints, and otherwise what is
// in the way. It has no name and password: clientv3 does not say why it cannot
// log in.
func reach(ctx context.Context, t *Target) error {
	cfg := t.Client
	cfg.Username, cfg.Password = "", ""
	cli, err := etcdcall.New(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = cli.Close() }() // nothing of it is needed any more
	ctx, cancel := context.WithTimeoutCause(ctx, reachTime, errNoAnswer)
	defer cancel()
	_, err = cli.Get(ctx, t.Prefix, clientv3.WithCountOnly())
	switch stopped, ok := errors.AsType[*reprise.Error](err); {
	case errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrPermissionDenied):
		return nil
	case ok && ctx.Err() != nil:
		return fmt.Errorf("%w: %s", context.Cause(ctx), status.Convert(stopped.Err).Message())
	default:
		return err
	}
}

// truth is a client that nobody lies to.
func (v *venue) truth(ctx context.Context) (*clientv3.Client, error) {
	if v.cluster == nil {
		return v.own, nil
	}
	m, err := v.cluster.WaitLeader(ctx)
	if err != nil {
		return nil, err
	}
	return m.Truth()
}

// close removes the cluster, or what the drill wrote, even if the drill was
// interrupted.
func (v *venue) close(ctx context.Context) error {
	if v.cluster != nil {
		return v.cluster.Close()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	_, err := v.own.Delete(ctx, v.prefix, clientv3.WithPrefix())
	if err != nil {
		err = fmt.Errorf("delete what the drill wrote under %q: %w", v.prefix, err)
	}
	return errors.Join(err, ignoreCancel(v.own.Close()))
}

// ignoreCancel drops what closing a client always says.
func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
