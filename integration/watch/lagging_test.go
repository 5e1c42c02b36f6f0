package watch_test

import (
	"context"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// behind tells of the watches that a server accepts at a revision lower than the
// one which the test says that they have seen.
type behind struct {
	seen atomic.Int64
	met  chan struct{}
}

func (b *behind) option() etcdtest.Option {
	return etcdtest.WithServerOptions(grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			return handle(srv, &revisionStream{ss, b})
		}))
}

type revisionStream struct {
	grpc.ServerStream
	behind *behind
}

func (s *revisionStream) SendMsg(m any) error {
	if r, ok := m.(*pb.WatchResponse); ok && r.Created && !r.Canceled && r.Header.Revision < s.behind.seen.Load() {
		select {
		case s.behind.met <- struct{}{}:
		default:
		}
	}
	return s.ServerStream.SendMsg(m)
}

// TestAWatchOutlivesAMemberThatIsBehind moves a watch to a member that does not
// know yet what the watch has seen.
func TestAWatchOutlivesAMemberThatIsBehind(t *testing.T) {
	t.Parallel()
	b := behind{met: make(chan struct{}, 1)}
	c := etcdtest.New(t, etcdtest.WithMembers(3), b.option())
	for round := range 5 {
		leader, err := c.WaitLeader(soon(t))
		must(t, err)
		cfg := c.Config()
		cfg.Endpoints = []string{leader.Endpoint()}
		cli, err := etcdcall.New(cfg, etcdcall.WithoutRequireLeader()) // to be accepted where there is none
		must(t, err)
		t.Cleanup(func() { _ = cli.Close() })
		w := watch(t, cli, "key")
		other := c.Member(round % 3)
		if other == leader {
			other = c.Member((round + 1) % 3)
		}
		must(t, c.Isolate(other))
		until(t, c, func(ctx context.Context, truth *clientv3.Client) error {
			return second(truth.Put(ctx, "key", "seen"))
		})
		changes, err := w.Next(soon(t))
		must(t, err)
		b.seen.Store(changes.Revision)

		cli.SetEndpoints(other.Endpoint())
		leader.ClientLink().Reset()
		select {
		case <-b.met:
		case <-soon(t).Done():
			t.Fatal("the watch was not resumed on the member that is behind")
		}
		b.seen.Store(0)
		must(t, c.HealPeers())
		until(t, c, func(ctx context.Context, truth *clientv3.Client) error {
			return second(truth.Put(ctx, "key", "after"))
		})
		for ev, err := range w.Events() {
			if err != nil {
				t.Fatalf("the member broke the watch: %v", err)
			}
			if string(ev.Kv.Value) == "after" {
				break
			}
		}
		w.Stop()
	}
}
