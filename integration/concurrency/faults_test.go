package concurrency_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	raw "go.etcd.io/etcd/client/v3/concurrency"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/check"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

var campaign = flag.Int("faults", 1, "multiplies how much each workload does under faults")

// enough is done when a workload has done what it should, at the latest after
// the limit for each part of the campaign.
type enough struct {
	context.Context
	done atomic.Int64
	want int64
	// faults are still to come, whatever was done.
	faults atomic.Int64
	stop   context.CancelFunc
}

// limit is what a slow machine may need.
const limit = 4 * time.Minute

func newEnough(t *testing.T, want int) *enough {
	t.Helper()
	e := &enough{want: int64(want * *campaign)}
	e.Context, e.stop = context.WithTimeout(t.Context(), time.Duration(*campaign)*limit)
	t.Cleanup(e.stop)
	return e
}

// add counts what was done.
func (e *enough) add() {
	if e.done.Add(1) >= e.want && e.faults.Load() <= 0 {
		e.stop()
	}
}

// struck counts a fault.
func (e *enough) struck() {
	if e.faults.Add(-1) <= 0 && e.done.Load() >= e.want {
		e.stop()
	}
}

// more waits until something was done beyond before, or d is over: a machine so
// slow that the next fault comes before it got over the last does nothing at all.
func (e *enough) more(before int64, d time.Duration) {
	ctx, cancel := context.WithTimeout(e, d)
	defer cancel()
	for e.done.Load() == before && ctx.Err() == nil {
		_ = reprise.Sleep(ctx, 10*time.Millisecond)
	}
}

// check reports a workload that did not get through.
func (e *enough) check(t *testing.T) {
	t.Helper()
	if done := e.done.Load(); done < e.want {
		t.Errorf("only %d of %d were done", done, e.want)
	}
}

// holding is a handle of a lock or an election.
type holding struct {
	take, give func(ctx context.Context) error
	ctx        func() context.Context
	token      func() int64
	revision   func() int64
	owner      func() clientv3.Cmp
}

func mutexHolding(m *concurrency.Mutex) holding {
	return holding{m.Lock, m.Unlock, m.Ctx, m.Token, func() int64 { return m.Header().Revision }, m.IsOwner}
}

func electionHolding(e *concurrency.Election, name string) holding {
	return holding{
		func(ctx context.Context) error { return e.Campaign(ctx, name) }, e.Resign, e.Ctx, e.Rev,
		func() int64 { return e.Header().Revision },
		func() clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision(e.Key()), "=", e.Rev()) },
	}
}

// rawHolding is one of two handles on a session of clientv3, which both hold the
// lock: what the checkers must catch.
func rawHolding(t *testing.T, s *raw.Session) holding {
	m := raw.NewMutex(s, "t/lock")
	return holding{
		m.Lock, m.Unlock, s.Ctx,
		func() int64 { cmp := m.IsOwner(); return cmp.GetCompare().GetCreateRevision() },
		func() int64 { return m.Header().Revision }, m.IsOwner,
	}
}

// TestNeverTwoHoldersUnderFaults has clients on a faulty cluster of three hold a
// lock or lead an election in turns. It is judged by the clock (no two believe in
// it at a time), by the store (who believes in it has it), and by fencing (nobody
// else writes).
func TestNeverTwoHoldersUnderFaults(t *testing.T) {
	mutex := func(s *concurrency.Session, _ int) holding {
		return mutexHolding(concurrency.NewMutex(s, "t/lock"))
	}
	election := func(s *concurrency.Session, i int) holding {
		return electionHolding(concurrency.NewElection(s, "t/lock"), strconv.Itoa(i))
	}
	for name, test := range map[string]struct {
		sessions int
		make     func(s *concurrency.Session, i int) holding
	}{
		"mutex":               {6, mutex},
		"mutex in a crowd":    {20, mutex},
		"election":            {6, election},
		"election in a crowd": {20, election},
	} {
		t.Run(name, func(t *testing.T) {
			var a asked
			c := etcdtest.New(t, a.option(), etcdtest.WithMembers(3), etcdtest.WithTick(50*time.Millisecond, 500*time.Millisecond))
			var holders []holding
			var clients []*clientv3.Client
			for i := range test.sessions {
				cli := newClient(t, c)
				s := session(t, cli, concurrency.WithTTL(2), concurrency.WithRegrant())
				holders, clients = append(holders, test.make(s, i)), append(clients, cli)
			}
			holds := holdUnderFaults(t, c, holders, clients, everyFault)
			if a.looks() == 0 && test.sessions > 6 {
				t.Error("nobody has waited as in a crowd")
			}
			log := history(t, c)
			if err := check.Exclusive(holds); err != nil {
				t.Error(err)
			}
			if err := check.Granted(log, "t/lock/", holds); err != nil {
				t.Error(err)
			}
			if err := check.Fenced(log, "t/lock/", "t/register"); err != nil {
				t.Error(err)
			}
			t.Logf("%d holds by %d of %d clients", len(holds), distinct(holds), len(holders))
		})
	}
	t.Run("two handles of clientv3 are caught", func(t *testing.T) {
		c := etcdtest.New(t)
		cli := c.Client(t)
		s, err := raw.NewSession(cli)
		must(t, err)
		defer s.Orphan()
		holds := holdUnderFaults(t, c, []holding{rawHolding(t, s), rawHolding(t, s)}, []*clientv3.Client{cli, cli}, func(*enough, *testing.T, *etcdtest.Cluster) {})
		if check.Exclusive(holds) == nil {
			t.Errorf("%d holds, and none overlap", len(holds))
		}
	})
}

func holdUnderFaults(t *testing.T, c *etcdtest.Cluster, holders []holding, clients []*clientv3.Client, disturb func(*enough, *testing.T, *etcdtest.Cluster)) []check.Hold {
	t.Helper()
	ctx := newEnough(t, 40)
	var (
		mu    sync.Mutex
		holds []check.Hold
		wg    sync.WaitGroup
	)
	for i, h := range holders {
		wg.Go(func() {
			for ctx.Err() == nil {
				asked, stop := context.WithTimeout(ctx, 10*time.Second)
				err := h.take(asked)
				stop()
				if err != nil {
					continue
				}
				hold := holdOnce(ctx, h, clients[i], strconv.Itoa(i))
				mu.Lock()
				holds = append(holds, hold)
				mu.Unlock()
				ctx.add()
			}
		})
	}
	disturb(ctx, t, c)
	wg.Wait()
	ctx.check(t)
	return holds
}

// holdOnce holds for some milliseconds, or until the lock is lost, and writes the
// token under the guard of the lock.
func holdOnce(ctx context.Context, h holding, cli *clientv3.Client, name string) check.Hold {
	hold := check.Hold{Holder: name, From: time.Now(), Token: h.token(), Revision: h.revision()}
	held := h.ctx()
	work, stop := context.WithTimeout(held, time.Duration(1+rand.IntN(5))*time.Millisecond)
	defer stop()
	_, _ = cli.Txn(work).If(h.owner()).Then(clientv3.OpPut("t/register", strconv.FormatInt(hold.Token, 10))).Commit()
	<-work.Done()
	hold.Until = time.Now()
	give, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stop()
	_ = h.give(give)
	return hold
}

// everyFault is faults, until each kind of them has come as well, as often as the
// campaign is long.
func everyFault(ctx *enough, t *testing.T, c *etcdtest.Cluster) {
	t.Helper()
	ctx.faults.Store(faultKinds * int64(*campaign))
	faults(ctx, t, c)
}

// faultKinds is how many kinds of faults there are.
const faultKinds = 5

// faults disturbs a cluster of three until enough was done, and heals it.
func faults(ctx *enough, t *testing.T, c *etcdtest.Cluster) {
	t.Helper()
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(*campaign)*2*limit)
	defer cancel()
	some := func() *etcdtest.Member { return c.Member(rand.IntN(3)) }
	pause := func(d time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
	for n := 0; ctx.Err() == nil; n++ {
		loss, err := c.Inject(etcdtest.Fault{Method: etcdtest.MethodTxn, Calls: 1, After: true, Answer: etcdtest.Lose()})
		must(t, err)
		before := ctx.done.Load()
		switch n % faultKinds {
		case 0:
			some().ClientLink().Reset()
		case 1:
			m, err := c.WaitLeader(whole)
			must(t, err)
			must(t, m.Kill())
			pause(100 * time.Millisecond)
			must(t, m.Restart(whole))
		case 2:
			link := some().ClientLink()
			must(t, link.BlackHole(etcdtest.Both))
			pause(500 * time.Millisecond)
			must(t, link.Heal())
		case 3:
			must(t, c.Isolate(some()))
			pause(200 * time.Millisecond)
			must(t, c.HealPeers())
		case 4:
			moving, stop := context.WithTimeout(whole, 2*time.Second)
			_ = c.MoveLeader(moving, some()) // there may be no leader to be moved
			stop()
		}
		pause(500 * time.Millisecond)
		loss.Stop()
		ctx.more(before, 20*time.Second)
		ctx.struck()
	}
	_, err := c.WaitLeader(whole)
	must(t, err)
}

// history is all that was written under t/.
func history(t *testing.T, c *etcdtest.Cluster) *check.Log {
	t.Helper()
	leader, err := c.WaitLeader(soon(t))
	must(t, err)
	cli, err := leader.Truth()
	must(t, err)
	last, err := cli.Put(soon(t), "t/end", "")
	must(t, err)
	log, err := check.ReadLog(soon(t), cli, "t/", 1, last.Header.Revision)
	must(t, err)
	return log
}

func distinct(holds []check.Hold) int {
	holders := make(map[string]bool)
	for _, h := range holds {
		holders[h.Holder] = true
	}
	return len(holders)
}
