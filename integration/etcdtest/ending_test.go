package etcdtest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"google.golang.org/grpc"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

// endings are the ways in which a member goes down. A call that is still inside
// its server then reads from a closed store, which crashes the process.
var endings = map[string]func(*etcdtest.Member) error{
	"killed":  (*etcdtest.Member).Kill,
	"stopped": (*etcdtest.Member).Stop,
}

func TestAMemberEndsAfterItsCalls(t *testing.T) {
	t.Parallel()
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := make(chan *etcdserver.EtcdServer, 1)
			inside, left := make(chan struct{}), make(chan error, 1)
			linger := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				s := <-server
				close(inside)
				<-ctx.Done() // the connection is gone
				select {
				case <-s.StopNotify():
					left <- errors.New("the member has ended before its call")
				case <-time.After(100 * time.Millisecond): // a missing wait would be seen by now
					_, err := handler(context.WithoutCancel(ctx), req)
					left <- err
				}
				return nil, ctx.Err()
			}
			c := etcdtest.New(t, etcdtest.WithServerOptions(grpc.ChainUnaryInterceptor(linger)))
			m, cli := c.Member(0), c.Client(t)
			server <- m.Server()

			ctx, cancel := context.WithCancel(soon(t))
			var call sync.WaitGroup
			call.Go(func() { _, _ = cli.Get(ctx, "key", clientv3.WithSerializable()) })
			<-inside
			must(t, end(m))
			cancel()
			call.Wait()
			must(t, <-left)
		})
	}
}

func TestTruthMayBeReadWhileAMemberEnds(t *testing.T) {
	t.Parallel()
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t)
			m := c.Member(0)
			put(t, c.Client(t), "key", "value")
			for range 10 {
				truth, err := m.Truth()
				must(t, err)
				var reading, over sync.WaitGroup
				for range 4 {
					reading.Add(1)
					over.Go(func() {
						started := sync.OnceFunc(reading.Done)
						for ctx, err := soon(t), error(nil); err == nil; started() {
							_, err = truth.Get(ctx, "key", clientv3.WithSerializable())
						}
					})
				}
				reading.Wait()
				must(t, end(m))
				over.Wait()
				must(t, m.Restart(soon(t)))
			}
		})
	}
}

func TestTruthReachesEveryService(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	truth, err := c.Member(0).Truth()
	must(t, err)
	ctx := soon(t)

	value := string(make([]byte, 1<<20))
	put, err := truth.Put(ctx, "p/0", value)
	must(t, err)
	for _, key := range []string{"p/1", "p/2", "p/3", "p/4"} {
		must(t, second(truth.Put(ctx, key, value)))
	}
	r, err := truth.Get(ctx, "p/", clientv3.WithPrefix())
	must(t, err)
	if len(r.Kvs) != 5 {
		t.Errorf("read %d keys, want 5 of 1 MiB each", len(r.Kvs))
	}
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	w := <-truth.Watch(watch, "p/0", clientv3.WithRev(put.Header.Revision))
	must(t, w.Err())
	if len(w.Events) != 1 {
		t.Errorf("watched %d events, want 1", len(w.Events))
	}
	lease, err := truth.Grant(ctx, 60)
	must(t, err)
	must(t, second(truth.KeepAliveOnce(ctx, lease.ID)))
	must(t, second(truth.MemberList(ctx)))
	must(t, second(truth.RoleList(ctx)))
	must(t, second(truth.Defragment(ctx, "")))
}

func second[T any](_ T, err error) error { return err }
