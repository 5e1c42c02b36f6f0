package concurrency

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	v3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// script is a cluster with one key, which is watched and read as the test says.
type script struct {
	v3.KV
	v3.Watcher
	// watch is the n-th watch, from 1 on: it ends when watch returns.
	watch func(ctx context.Context, n int, events chan<- v3.WatchResponse)
	// reads is what reads find, one after the other, and then the last over and
	// over. A read that finds nil is not answered, and broken is an error.
	reads []*v3.GetResponse

	watches int
}

func (s *script) client(ctx context.Context) *v3.Client {
	cli := v3.NewCtxClient(ctx)
	cli.KV, cli.Watcher = s, s
	return cli
}

func (s *script) Watch(ctx context.Context, _ string, _ ...v3.OpOption) v3.WatchChan {
	s.watches++
	n, events := s.watches, make(chan v3.WatchResponse)
	go func() {
		defer close(events)
		s.watch(ctx, n, events)
	}()
	return events
}

func (s *script) Get(ctx context.Context, _ string, _ ...v3.OpOption) (*v3.GetResponse, error) {
	found := s.reads[0]
	if len(s.reads) > 1 {
		s.reads = s.reads[1:]
	}
	if found == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if found == broken {
		return nil, rpctypes.ErrTimeout
	}
	return found, nil
}

var broken = new(v3.GetResponse)

// begun says that a watch stands.
var begun = v3.WatchResponse{Created: true}

// stand is a watch on which nothing happens.
func stand(ctx context.Context, _ int, events chan<- v3.WatchResponse) {
	events <- begun
	<-ctx.Done()
}

// at is what a read finds at revision rev: the key that was created at revision
// created, or none if that is 0.
func at(rev, created int64) *v3.GetResponse {
	resp := &v3.GetResponse{Header: &pb.ResponseHeader{Revision: rev}}
	if created != 0 {
		resp.Kvs = []*mvccpb.KeyValue{{Key: []byte("key"), CreateRevision: created, ModRevision: created}}
	}
	return resp
}

// gone reports deletions of the key.
func gone(revs ...int64) v3.WatchResponse {
	var resp v3.WatchResponse
	for _, rev := range revs {
		resp.Events = append(resp.Events, &v3.Event{Type: v3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: []byte("key"), ModRevision: rev}})
	}
	return resp
}

// notes is a follower that writes down what it is told, up to a number of things.
type notes struct {
	told []string
	want int
	full context.CancelFunc
}

func (n *notes) add(what string) {
	if n.told = append(n.told, what); len(n.told) == n.want {
		n.full()
	}
}

func (n *notes) restarted(resp *v3.GetResponse) { n.add(fmt.Sprint("snapshot ", resp.Header.Revision)) }

func (n *notes) moved(batch *v3.WatchResponse) {
	for _, ev := range batch.Events {
		n.add(fmt.Sprint("event ", ev.Kv.ModRevision))
	}
}

// TestAFollowerHearsOfEachRevisionOnceAndInOrder has a watch report what the
// snapshot has already, and break.
func TestAFollowerHearsOfEachRevisionOnceAndInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{
			watch: func(ctx context.Context, n int, events chan<- v3.WatchResponse) {
				events <- begun
				if n == 1 {
					events <- gone(4)
					events <- gone(5, 6, 7)
					events <- gone(8)
					return
				}
				events <- gone(10, 11)
				<-ctx.Done()
			},
			reads: []*v3.GetResponse{at(6, 0), at(10, 0)},
		}
		ctx, full := context.WithCancel(t.Context())
		n := &notes{want: 5, full: full}
		follow(ctx, s.client(t.Context()), followed{key: "key"}, n)
		want := []string{"snapshot 6", "event 7", "event 8", "snapshot 10", "event 11"}
		if !slices.Equal(n.told, want) {
			t.Errorf("told %v, want %v", n.told, want)
		}
	})
}

// strict is a script that asks whether it is asked for the truth.
type strict struct {
	*script
	t *testing.T
}

func (s *strict) Watch(ctx context.Context, key string, opts ...v3.OpOption) v3.WatchChan {
	if md, _ := metadata.FromOutgoingContext(ctx); len(md.Get(rpctypes.MetadataRequireLeaderKey)) == 0 {
		s.t.Error("a member without a leader could watch")
	}
	return s.script.Watch(ctx, key, opts...)
}

func (s *strict) Get(ctx context.Context, key string, opts ...v3.OpOption) (*v3.GetResponse, error) {
	if op := v3.OpGet(key, opts...); op.IsSerializable() || !op.IsKeysOnly() || !op.IsOptsWithPrefix() {
		s.t.Error("it is not read as it was asked for, or what was before the watch")
	}
	return s.script.Get(ctx, key, opts...)
}

func TestNothingIsMissedBehindAMemberWithoutALeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &strict{&script{watch: stand, reads: []*v3.GetResponse{at(1, 1)}}, t}
		cli := v3.NewCtxClient(t.Context())
		cli.KV, cli.Watcher = s, s
		ctx, full := context.WithCancel(t.Context())
		n := &notes{want: 1, full: full}
		follow(ctx, cli, followed{key: "key", get: []v3.OpOption{v3.WithPrefix(), v3.WithKeysOnly()}}, n)
		if len(n.told) != 1 {
			t.Errorf("told %v", n.told)
		}
	})
}

// TestAWatchThatDoesNotBeginIsBegunAnew has the first watch never begin, and then
// the read that belongs to a watch never end.
func TestAWatchThatDoesNotBeginIsBegunAnew(t *testing.T) {
	t.Parallel()
	silent := func(ctx context.Context, n int, events chan<- v3.WatchResponse) {
		if n == 1 {
			<-ctx.Done()
			return
		}
		stand(ctx, n, events)
	}
	for name, s := range map[string]*script{
		"the watch": {watch: silent, reads: []*v3.GetResponse{at(1, 1), at(2, 0)}},
		"the read":  {watch: stand, reads: []*v3.GetResponse{at(1, 1), nil, at(2, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now()
				if err := NewBarrier(s.client(t.Context()), "key").Wait(ctx); err != nil {
					t.Errorf("Wait: %v", err)
				}
				if took := time.Since(began); took < establishTimeout || took > establishTimeout+time.Second || s.watches != 2 {
					t.Errorf("%d watches in %v", s.watches, took)
				}
			})
		})
	}
}

// TestAWatchThatStandsIsNotBegunAnew lets nothing happen for a long time.
func TestAWatchThatStandsIsNotBegunAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{watch: stand, reads: []*v3.GetResponse{at(1, 1)}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := NewBarrier(s.client(t.Context()), "key").Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || s.watches != 1 {
			t.Errorf("%d watches, %v", s.watches, err)
		}
	})
}

// TestThePausesBeginAnewWhenAWatchHasStood has watches break at once, time and again.
func TestThePausesBeginAnewWhenAWatchHasStood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const breaks = 50
		s := &script{reads: []*v3.GetResponse{at(1, 1)}, watch: func(ctx context.Context, n int, events chan<- v3.WatchResponse) {
			events <- begun
			if n > breaks {
				<-ctx.Done()
			}
		}}
		ctx, full := context.WithCancel(t.Context())
		began := time.Now()
		follow(ctx, s.client(t.Context()), followed{key: "key"}, &notes{want: breaks + 1, full: full})
		if took := time.Since(began); took > breaks*pauses.Initial {
			t.Errorf("%d pauses took %v", breaks, took)
		}
	})
}

// TestABarrierThatIsReleasedWhileNobodyWatchesLetsAllGo has the watch break, and
// the barrier released before the next one begins.
func TestABarrierThatIsReleasedWhileNobodyWatchesLetsAllGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{
			watch: func(ctx context.Context, n int, events chan<- v3.WatchResponse) {
				if n == 1 {
					events <- begun
					return
				}
				stand(ctx, n, events)
			},
			reads: []*v3.GetResponse{at(1, 1), at(2, 1), at(3, 0)},
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := NewBarrier(s.client(t.Context()), "key").Wait(ctx); err != nil || s.watches != 2 {
			t.Errorf("%d watches, %v", s.watches, err)
		}
	})
}

// TestWhoWaitsWaitsUntilItsDeadline has watches break again and again: the pause
// after the last one would outlast the deadline.
func TestWhoWaitsWaitsUntilItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		breaking := func(_ context.Context, _ int, events chan<- v3.WatchResponse) { events <- begun }
		s := &script{watch: breaking, reads: []*v3.GetResponse{at(1, 1)}}
		const patience = 10 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		began := time.Now()
		err := NewBarrier(s.client(t.Context()), "key").Wait(ctx)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != patience {
			t.Errorf("Wait: %v after %v", err, took)
		}
	})
}
