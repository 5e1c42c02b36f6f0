package concurrency_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/check"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func undisturbed(*enough, *testing.T, *etcdtest.Cluster) {}

// disturbed does work on a cluster that is disturbed until it has added what is
// wanted for each part of the campaign. The context of the work is another: what
// was begun is to end.
func disturbed(t *testing.T, c *etcdtest.Cluster, want int, disturb func(*enough, *testing.T, *etcdtest.Cluster), work func(ctx context.Context, e *enough)) {
	t.Helper()
	e := newEnough(t, want)
	ctx := within(t, time.Duration(*campaign)*2*limit)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer e.stop()
		work(ctx, e)
	}()
	disturb(e, t, c)
	<-done
	e.check(t)
}

// TestNobodyPassesABarrierThatStandsUnderFaults has one client of a faulty cluster
// of three raise and release a barrier, and others wait at it, round after round.
func TestNobodyPassesABarrierThatStandsUnderFaults(t *testing.T) {
	t.Run("reprise", func(t *testing.T) {
		c := etcdtest.New(t, etcdtest.WithMembers(3), etcdtest.WithTick(50*time.Millisecond, 500*time.Millisecond))
		stands := func(*sync.WaitGroup) { <-time.After(200 * time.Millisecond) } // for the faults
		stood, passed := waitUnderFaults(t, c, 6, faults, stands, func(cli *clientv3.Client) func(context.Context) error {
			return concurrency.NewBarrier(cli, "t/barrier").Wait
		})
		if err := check.Stopped(stood, passed); err != nil {
			t.Error(err)
		}
	})
	t.Run("who does not wait is caught", func(t *testing.T) {
		c := etcdtest.New(t)
		stood, passed := waitUnderFaults(t, c, 3, undisturbed, (*sync.WaitGroup).Wait, func(cli *clientv3.Client) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := cli.Get(ctx, "t/barrier")
				return err
			}
		})
		if check.Stopped(stood, passed) == nil {
			t.Errorf("%d passages, and all waited", len(passed))
		}
	})
}

func waitUnderFaults(t *testing.T, c *etcdtest.Cluster, rounds int, disturb func(*enough, *testing.T, *etcdtest.Cluster),
	stands func(waiting *sync.WaitGroup), waiting func(cli *clientv3.Client) func(context.Context) error,
) (stood []check.Standing, passed []check.Passage) {
	t.Helper()
	const waiters = 4
	holder := concurrency.NewBarrier(newClient(t, c), "t/barrier")
	var wait [waiters]func(context.Context) error
	for i := range wait {
		wait[i] = waiting(newClient(t, c))
	}
	disturbed(t, c, rounds, disturb, func(ctx context.Context, e *enough) {
		for range rounds * *campaign {
			if err := holder.Hold(ctx); err != nil {
				t.Errorf("Hold: %v", err)
				return
			}
			s := check.Standing{Raised: time.Now()}
			var (
				passages [waiters]check.Passage
				wg       sync.WaitGroup
			)
			for i, wait := range wait {
				wg.Go(func() {
					p := check.Passage{Who: strconv.Itoa(i), Arrived: time.Now()}
					if err := wait(ctx); err != nil {
						t.Errorf("Wait: %v", err)
					}
					p.Passed = time.Now()
					passages[i] = p
				})
			}
			stands(&wg)
			s.Released = time.Now()
			if err := holder.Release(ctx); err != nil {
				t.Errorf("Release: %v", err)
				return
			}
			wg.Wait()
			stood, passed = append(stood, s), append(passed, passages[:]...)
			e.add()
		}
	})
	return stood, passed
}

// TestADoubleBarrierKeepsItsMembersTogetherUnderFaults has members on a faulty
// cluster of three enter and leave together, round after round.
func TestADoubleBarrierKeepsItsMembersTogetherUnderFaults(t *testing.T) {
	const members = 4
	t.Run("reprise", func(t *testing.T) {
		c := etcdtest.New(t, etcdtest.WithMembers(3), etcdtest.WithTick(50*time.Millisecond, 500*time.Millisecond))
		stays := meetUnderFaults(t, c, members, members, 5, faults)
		if err := check.Together(stays, members); err != nil {
			t.Error(err)
		}
	})
	t.Run("a barrier for too few is caught", func(t *testing.T) {
		stays := meetUnderFaults(t, etcdtest.New(t), members, 1, 3, undisturbed)
		if check.Together(stays, members) == nil {
			t.Errorf("%d stays, and all were together", len(stays))
		}
	})
}

func meetUnderFaults(t *testing.T, c *etcdtest.Cluster, members, count, rounds int, disturb func(*enough, *testing.T, *etcdtest.Cluster)) []check.Stay {
	t.Helper()
	var barriers []*concurrency.DoubleBarrier
	for i := range members {
		name := "t/barrier"
		if count < members {
			name += strconv.Itoa(i % (members / count)) // those that meet
		}
		// A session that was lost would be a member that has left.
		s := session(t, newClient(t, c), concurrency.WithTTL(300))
		barriers = append(barriers, concurrency.NewDoubleBarrier(s, name, count))
	}
	var (
		mu    sync.Mutex
		stays []check.Stay
		first = make(chan struct{}) // closed when the first may have gone ahead
	)
	if count == members {
		close(first)
	}
	disturbed(t, c, members*rounds, disturb, func(ctx context.Context, e *enough) {
		var wg sync.WaitGroup
		for i, b := range barriers {
			wg.Go(func() {
				for n := range rounds * *campaign {
					if i > 0 {
						<-first
					}
					rest(ctx)
					s := check.Stay{Round: n, Member: strconv.Itoa(i), Enter: time.Now()}
					if err := b.Enter(ctx); err != nil {
						t.Errorf("Enter: %v", err)
						return
					}
					s.Begun = time.Now()
					rest(ctx)
					s.Leave = time.Now()
					if err := b.Leave(ctx); err != nil {
						t.Errorf("Leave: %v", err)
						return
					}
					s.Ended = time.Now()
					if i == 0 && n == 0 && count < members {
						close(first)
					}
					mu.Lock()
					stays = append(stays, s)
					mu.Unlock()
					e.add()
				}
			})
		}
		wg.Wait()
	})
	return stays
}
