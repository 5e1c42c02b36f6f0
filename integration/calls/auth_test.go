package calls_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

// logins counts the calls to Authenticate.
type logins struct{ atomic.Int64 }

func (l *logins) option() etcdtest.Option {
	return etcdtest.WithServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if info.FullMethod == pb.Auth_Authenticate_FullMethodName {
				l.Add(1)
			}
			return handler(ctx, req)
		}))
}

const callers = 32

// putAtOnce makes callers put at the same time, each its own key.
func putAtOnce(t *testing.T, cli *clientv3.Client) {
	t.Helper()
	ctx := soon(t)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			if err := second(cli.Put(ctx, fmt.Sprint("k", i), "v")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestATokenThatIsNoLongerValidIsRefreshedOnceForAll(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ttl        time.Duration
		invalidate func(t *testing.T, c *etcdtest.Cluster)
	}{
		"the member lost it in a restart": {time.Hour, func(t *testing.T, c *etcdtest.Cluster) {
			must(t, c.Member(0).Kill())
			must(t, c.Member(0).Restart(soon(t)))
			must(t, second(c.WaitLeader(soon(t))))
		}},
		"the password was set again": {time.Hour, func(t *testing.T, c *etcdtest.Cluster) {
			must(t, second(c.Client(t).UserChangePassword(soon(t), "root", "secret")))
		}},
		"it was not used for longer than it lives": {shortTTL, func(*testing.T, *etcdtest.Cluster) {
			// A look at the token would keep it alive. The server looks for
			// expired ones every second.
			<-time.After(shortTTL + time.Second + 500*time.Millisecond)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked logins
			c := etcdtest.New(t, etcdtest.WithAuth("secret"), asked.option(),
				etcdtest.WithServerConfig(func(cfg *embed.Config) { cfg.AuthTokenTTL = uint(test.ttl / time.Second) }))
			cli := client(t, c.Config())
			putAtOnce(t, cli)
			var n int64
			for round := 0; n == 0 && round < 5; round++ { // a busy server may be late to drop the token
				test.invalidate(t, c)
				before := asked.Load()
				putAtOnce(t, cli)
				n = asked.Load() - before
			}
			// One fetch is the rule; the second leaves room for a call that
			// begins while the first is under way, with the old token.
			if n < 1 || n > 2 {
				t.Errorf("%d calls with a stale token asked for %d tokens", callers, n)
			}
		})
	}
}

// shortTTL leaves a busy machine the time to make the calls of one round with
// one token.
const shortTTL = 3 * time.Second

func TestAWrongPasswordIsNotTriedAgainAndAgain(t *testing.T) {
	t.Parallel()
	var asked logins
	c := etcdtest.New(t, etcdtest.WithAuth("secret"), asked.option())
	cli := client(t, c.Config())
	must(t, second(cli.Put(soon(t), "k", "v")))
	must(t, second(c.Client(t).UserChangePassword(soon(t), "root", "other")))
	before := asked.Load()
	start := time.Now()
	err := second(cli.Put(soon(t), "k", "w"))
	if err == nil {
		t.Fatal("a call with the old password succeeded")
	}
	if n := asked.Load() - before; n > 5 {
		t.Errorf("%d attempts to log in", n)
	}
	t.Logf("after %v: %v", time.Since(start).Round(time.Millisecond), err)
}
