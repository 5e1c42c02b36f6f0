package concurrency_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	raw "go.etcd.io/etcd/client/v3/concurrency"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestAnElectionHasOneLeaderAtATime(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := newClient(t, c)
	s := session(t, cli)
	n := counted(cli)
	e := concurrency.NewElection(s, "election")
	if _, err := e.Leader(soon(t)); err != concurrency.ErrElectionNoLeader { //nolint:errorlint // the very error is promised
		t.Errorf("before: %v", err)
	}
	if err := e.Proclaim(soon(t), "x"); err != concurrency.ErrElectionNotLeader { //nolint:errorlint // the very error is promised
		t.Errorf("Proclaim before: %v", err)
	}
	must(t, e.Resign(soon(t)))
	must(t, e.Campaign(soon(t), "one"))
	if got := n.txns.Load(); got != 1 {
		t.Errorf("Campaign took %d round trips", got)
	}
	if e.Key() == "" || e.Rev() == 0 || e.Header().GetRevision() != e.Rev() || e.Ctx().Err() != nil {
		t.Errorf("key %q, rev %d, header %v", e.Key(), e.Rev(), e.Header())
	}
	next := concurrency.NewElection(session(t, newClient(t, c)), "election")
	elected := lockInBackground(t, func(ctx context.Context) error { return next.Campaign(ctx, "two") })
	until(t, "two candidates", func() bool { return len(keys(t, c, "election/")) == 2 })
	for _, val := range []string{"once", "twice"} {
		lose(t, c, etcdtest.MethodTxn, 1)
		must(t, e.Proclaim(soon(t), val))
		checkLeader(t, next, val)
	}
	rev, ctx := e.Rev(), e.Ctx()
	must(t, e.Resign(soon(t)))
	if err := waitEnd(t, ctx, "the leadership"); err != concurrency.ErrLockReleased || e.Key() != "" || e.Rev() != 0 { //nolint:errorlint // the very error is promised
		t.Errorf("cause %v, key %q", err, e.Key())
	}
	must(t, <-elected)
	checkLeader(t, e, "two")
	if next.Rev() <= rev {
		t.Errorf("term %d after %d", next.Rev(), rev)
	}
}

func checkLeader(t *testing.T, e *concurrency.Election, want string) {
	t.Helper()
	resp, err := e.Leader(soon(t))
	must(t, err)
	if got := string(resp.Kvs[0].Value); got != want {
		t.Errorf("the leader is %q, want %q", got, want)
	}
}

func TestACampaignIsNotWonByACandidateWhoseKeyIsGone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		campaign func(t *testing.T, cli *clientv3.Client) (clientv3.LeaseID, <-chan error)
		zombie   bool
	}{
		"clientv3": {func(t *testing.T, cli *clientv3.Client) (clientv3.LeaseID, <-chan error) {
			s, err := raw.NewSession(cli)
			must(t, err)
			t.Cleanup(s.Orphan)
			e := raw.NewElection(s, "election")
			return s.Lease(), lockInBackground(t, func(ctx context.Context) error { return e.Campaign(ctx, "zombie") })
		}, true},
		"reprise": {func(t *testing.T, cli *clientv3.Client) (clientv3.LeaseID, <-chan error) {
			s := session(t, cli)
			e := concurrency.NewElection(s, "election")
			return s.Lease(), lockInBackground(t, func(ctx context.Context) error { return e.Campaign(ctx, "zombie") })
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var watches created
			c := etcdtest.New(t, watches.option())
			cli := c.Client(t)
			_, err := truth(t, c).Put(soon(t), "election/0", "")
			must(t, err)
			lease, won := test.campaign(t, cli)
			until(t, "the candidate's watch", func() bool { return watches.Load() > 0 })
			_, err = truth(t, c).Revoke(soon(t), lease)
			must(t, err)
			_, err = truth(t, c).Delete(soon(t), "election/0")
			must(t, err)
			if err := <-won; (err == nil) != test.zombie {
				t.Errorf("Campaign: %v", err)
			}
		})
	}
}

func TestACampaignThatFailsLeavesNoCandidate(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	_, err := truth(t, c).Put(soon(t), "election/0", "")
	must(t, err)
	e := concurrency.NewElection(session(t, newClient(t, c)), "election")
	lose(t, c, etcdtest.MethodTxn, 1)
	ctx := within(t, 300*time.Millisecond)
	if err := e.Campaign(ctx, "one"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Campaign: %v", err)
	}
	until(t, "the candidate to go", func() bool { return len(keys(t, c, "election/")) == 1 })
	// It can stand again at once.
	elected := lockInBackground(t, func(ctx context.Context) error { return e.Campaign(ctx, "two") })
	until(t, "two candidates", func() bool { return len(keys(t, c, "election/")) == 2 })
	_, err = truth(t, c).Delete(soon(t), "election/0")
	must(t, err)
	must(t, <-elected)
	checkLeader(t, e, "two")
	// A leader who campaigns goes on leading.
	rev := e.Rev()
	must(t, e.Campaign(soon(t), "three"))
	checkLeader(t, e, "three")
	if e.Rev() != rev {
		t.Error("there was another election")
	}
}

// TestCampaignsOfOneElectionTakeTurns has one of two give up: they would have one
// key between them.
func TestCampaignsOfOneElectionTakeTurns(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	e := concurrency.NewElection(session(t, newClient(t, c)), "election")
	candidates := func(n int) {
		t.Helper()
		until(t, strconv.Itoa(n)+" candidates", func() bool { return len(keys(t, c, "election/")) == n })
	}
	for range 5 {
		_, err := truth(t, c).Put(soon(t), "election/0", "")
		must(t, err)
		ctx, giveUp := context.WithCancel(soon(t))
		first := make(chan error, 1)
		go func() { first <- e.Campaign(ctx, "first") }()
		candidates(2)
		second := lockInBackground(t, func(ctx context.Context) error { return e.Campaign(ctx, "second") })
		giveUp()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("Campaign: %v", err)
		}
		third := lockInBackground(t, func(ctx context.Context) error { return e.Campaign(ctx, "second") })
		candidates(2)
		_, err = truth(t, c).Delete(soon(t), "election/0")
		must(t, err)
		must(t, <-second)
		must(t, <-third)
		checkLeader(t, e, "second")
		must(t, e.Resign(soon(t)))
	}
}

func TestACandidateWhoComesBackFindsTheOneBeforeItAmongYoungerOnes(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	s := session(t, newClient(t, c))
	put := func(name string, opts ...clientv3.OpOption) {
		_, err := truth(t, c).Put(soon(t), "election/"+name, "", opts...)
		must(t, err)
	}
	put("0")
	put(strconv.FormatInt(int64(s.Lease()), 16), clientv3.WithLease(s.Lease()))
	put("1")
	put("2")
	e := concurrency.NewElection(s, "election")
	if err := e.Campaign(within(t, 300*time.Millisecond), "me"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Campaign: %v", err)
	}
}

func TestAnObserverHearsOfNoCandidateWhoOnlyWaits(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	leader := concurrency.NewElection(session(t, newClient(t, c)), "election")
	must(t, leader.Campaign(soon(t), "one"))
	leaders := leader.Observe(soon(t))
	next := func(want string) {
		t.Helper()
		if resp, open := <-leaders; !open || string(resp.Kvs[0].Value) != want {
			t.Errorf("got %v, want %s", resp, want)
		}
	}
	next("one")
	waiting := concurrency.NewElection(session(t, newClient(t, c)), "election")
	elected := lockInBackground(t, func(ctx context.Context) error { return waiting.Campaign(ctx, "two") })
	until(t, "two candidates", func() bool { return len(keys(t, c, "election/")) == 2 })
	must(t, leader.Proclaim(soon(t), "one still"))
	next("one still")
	must(t, leader.Resign(soon(t)))
	next("two")
	must(t, <-elected)
}

func TestALeaderWhoseKeyIsGoneProclaimsNothing(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	e := concurrency.NewElection(session(t, newClient(t, c)), "election")
	for _, proclaimed := range []bool{false, true} {
		must(t, e.Campaign(soon(t), "me"))
		if proclaimed {
			must(t, e.Proclaim(soon(t), "still me"))
		}
		_, err := truth(t, c).Delete(soon(t), e.Key())
		must(t, err)
		if err := e.Proclaim(soon(t), "zombie"); err != concurrency.ErrElectionNotLeader { //nolint:errorlint // the very error is promised
			t.Errorf("Proclaim: %v", err)
		}
		if left := keys(t, c, "election/"); len(left) != 0 {
			t.Errorf("it came back: %v", left)
		}
	}
}

// TestALeaderWhoLearnsOfItsLossByProclaimingHasLost lets no watch tell of it.
func TestALeaderWhoLearnsOfItsLossByProclaimingHasLost(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	_, err := c.Inject(etcdtest.Fault{Method: etcdtest.MethodWatch, Calls: -1, Answer: etcdtest.Hang()})
	must(t, err)
	e := concurrency.NewElection(session(t, newClient(t, c)), "election")
	must(t, e.Campaign(soon(t), "one"))
	ctx, key, rev := e.Ctx(), e.Key(), e.Rev()
	_, err = truth(t, c).Delete(soon(t), key)
	must(t, err)
	if err := e.Proclaim(soon(t), "two"); err != concurrency.ErrElectionNotLeader { //nolint:errorlint // the very error is promised
		t.Errorf("Proclaim: %v", err)
	}
	lost, ok := errors.AsType[*concurrency.LostError](waitEnd(t, ctx, "the leadership"))
	if !ok || lost.Key != key || lost.Rev != rev {
		t.Errorf("cause: %v", context.Cause(ctx))
	}
	if e.Key() != "" || e.Rev() != 0 || e.Ctx().Err() == nil {
		t.Errorf("it leads still: %q of %d", e.Key(), e.Rev())
	}
	must(t, e.Resign(soon(t)))
	must(t, e.Campaign(soon(t), "three"))
	if e.Rev() <= rev {
		t.Errorf("term %d after %d", e.Rev(), rev)
	}
	checkLeader(t, e, "three")
}

func TestALeadershipOutlivesItsProcess(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := newClient(t, c)
	s := session(t, cli)
	e := concurrency.NewElection(s, "election")
	must(t, e.Campaign(soon(t), "old"))
	key, rev := e.Key(), e.Rev()
	s.Orphan()
	if e.Key() != "" || e.Proclaim(soon(t), "x") != concurrency.ErrElectionNotLeader { //nolint:errorlint // the very error is promised
		t.Error("it leads without a session")
	}
	s2 := session(t, cli, concurrency.WithLease(s.Lease()))
	e2 := concurrency.NewElection(s2, "election")
	must(t, e2.Campaign(soon(t), "new"))
	if e2.Key() != key || e2.Rev() != rev {
		t.Errorf("%s of %d, want %s of %d", e2.Key(), e2.Rev(), key, rev)
	}
	checkLeader(t, e2, "new")
	e3 := concurrency.ResumeElection(s2, "election/", key, rev)
	must(t, e3.Proclaim(soon(t), "newer"))
	checkLeader(t, e3, "newer")
	must(t, e3.Resign(soon(t)))
	if _, err := e3.Leader(soon(t)); err != concurrency.ErrElectionNoLeader { //nolint:errorlint // the very error is promised
		t.Errorf("Leader: %v", err)
	}
	waitEnd(t, e2.Ctx(), "the leadership")
	if err := e2.Proclaim(soon(t), "x"); err != concurrency.ErrElectionNotLeader { //nolint:errorlint // the very error is promised
		t.Errorf("Proclaim: %v", err)
	}
}

func TestObserveResumesAndReportsVacancy(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	observer := concurrency.NewElection(session(t, newClient(t, c)), "election")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	leaders, terms := observer.Observe(ctx), observer.ObserveVacancy(ctx)
	expect := func(what string, from <-chan *clientv3.GetResponse, want string) {
		t.Helper()
		select {
		case resp := <-from:
			got := "nobody"
			if len(resp.Kvs) > 0 {
				got = string(resp.Kvs[0].Value)
			}
			if got != want {
				t.Errorf("%s: got %s, want %s", what, got, want)
			}
		case <-soon(t).Done():
			t.Fatalf("%s: still waiting for %s", what, want)
		}
	}
	expect("vacancy", terms, "nobody")
	for _, name := range []string{"one", "two"} {
		e := concurrency.NewElection(session(t, newClient(t, c)), "election")
		must(t, e.Campaign(soon(t), name))
		expect("vacancy", terms, name)
		expect("leader", leaders, name)
		must(t, e.Proclaim(soon(t), name+"!"))
		expect("vacancy", terms, name+"!")
		expect("leader", leaders, name+"!")
		// What would end an observation of clientv3.
		_, err := c.Compact(soon(t), 0)
		must(t, err)
		c.Member(0).ClientLink().Reset()
		must(t, e.Resign(soon(t)))
		expect("vacancy", terms, "nobody")
	}
	cancel()
	for _, ch := range []<-chan *clientv3.GetResponse{leaders, terms} {
		if _, open := <-ch; open {
			t.Error("more was observed")
		}
	}
}

func TestADeadLeaderIsSucceededWhenItsLeaseExpires(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	const ttl = 2
	s := session(t, newClient(t, c), concurrency.WithTTL(ttl))
	e := concurrency.NewElection(s, "election")
	must(t, e.Campaign(soon(t), "dies"))
	next := concurrency.NewElection(session(t, newClient(t, c)), "election")
	elected := lockInBackground(t, func(ctx context.Context) error { return next.Campaign(ctx, "lives") })
	until(t, "two candidates", func() bool { return len(keys(t, c, "election/")) == 2 })
	s.Orphan() // nothing renews the lease any more
	died := time.Now()
	must(t, <-elected)
	t.Logf("a leader with a TTL of %d s was succeeded after %v", ttl, time.Since(died))
}
