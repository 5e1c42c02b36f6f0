package concurrency_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// quit begins a candidacy and gives it up while the request to create its key is
// on its way still. That comes when it is let through.
func quit(t *testing.T, g *gate, e *concurrency.Election) (creation *hold) {
	t.Helper()
	creation = g.hold(t, 1, puts)
	ctx, giveUp := context.WithCancel(soon(t))
	defer giveUp()
	done := make(chan error, 1)
	go func() { done <- e.Campaign(ctx, "one") }()
	creation.await(t, "the candidacy")
	giveUp()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("Campaign: %v", err)
	}
	return creation
}

// lookedFor waits until a key that may come late has been looked for, and was not
// there.
func lookedFor(t *testing.T, g *gate) {
	t.Helper()
	for range 3 {
		h := g.hold(t, 1, func(req any) bool { return reads(req) || deletes(req) })
		h.await(t, "the look-out")
		g.let(h)
	}
}

// TestADeletionThatComesLateLeavesTheNextCandidacyAlone has the request to delete
// the key of a candidacy that was given up arrive when the next candidacy, which
// has a key of the same name, is the leader's.
func TestADeletionThatComesLateLeavesTheNextCandidacyAlone(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(t *testing.T, g *gate){
		"of a candidate who gives up":   func(*testing.T, *gate) {},
		"of one who looks out for keys": lookedFor,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var g gate
			c := etcdtest.New(t, g.option())
			e := concurrency.NewElection(session(t, newClient(t, c)), "election")
			creation := quit(t, &g, e)
			before(t, &g)
			deletion := g.hold(t, 1, deletes)
			g.let(creation)
			deletion.await(t, "the deletion")
			// Its answer is lost, so that it is sent again.
			c.Member(0).ClientLink().Reset()
			until(t, "the key to go", func() bool { return len(keys(t, c, "election/")) == 0 })
			must(t, e.Campaign(soon(t), "two"))
			g.let(deletion)
			if err := e.Proclaim(soon(t), "still two"); err != nil {
				t.Errorf("a late request has ended the leadership: %v", err)
			}
		})
	}
}

// TestACandidateDoesNotTakeOverAKeyThatIsBeingDeleted has a candidate come back
// while the deletion of the key of its last candidacy is on its way.
func TestACandidateDoesNotTakeOverAKeyThatIsBeingDeleted(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(t *testing.T, g *gate, e *concurrency.Election) (deletion *hold){
		"that came late": func(t *testing.T, g *gate, e *concurrency.Election) *hold {
			creation := quit(t, g, e)
			lookedFor(t, g)
			deletion := g.hold(t, -1, deletes)
			g.let(creation)
			return deletion
		},
		"of a leader who is resigning": func(t *testing.T, g *gate, e *concurrency.Election) *hold {
			must(t, e.Campaign(soon(t), "one"))
			deletion := g.hold(t, -1, deletes)
			resigned := lockInBackground(t, e.Resign)
			t.Cleanup(func() {
				if err := <-resigned; err != nil {
					t.Errorf("Resign: %v", err)
				}
			})
			return deletion
		},
		"of the last leader": func(t *testing.T, g *gate, e *concurrency.Election) *hold {
			must(t, e.Campaign(soon(t), "one"))
			deletion := g.hold(t, -1, deletes)
			if err := e.Resign(within(t, 100*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Resign: %v", err)
			}
			return deletion
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var g gate
			c := etcdtest.New(t, g.option())
			e := concurrency.NewElection(session(t, newClient(t, c)), "election")
			deletion := leave(t, &g, e)
			deletion.await(t, "the deletion")
			if err := e.Campaign(within(t, 300*time.Millisecond), "two"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Campaign while the last candidacy is on its way out: %v", err)
			}
			g.let(deletion)
			must(t, e.Resign(soon(t)))
			must(t, e.Campaign(soon(t), "two"))
			if err := e.Proclaim(soon(t), "still two"); err != nil {
				t.Errorf("the leadership did not last: %v", err)
			}
		})
	}
}

// TestAProclamationThatComesLateIsNoNews has a leader give a proclamation up, and
// make another, before the first one arrives.
func TestAProclamationThatComesLateIsNoNews(t *testing.T) {
	t.Parallel()
	var g gate
	c := etcdtest.New(t, g.option())
	e := concurrency.NewElection(session(t, newClient(t, c)), "election")
	must(t, e.Campaign(soon(t), "one"))
	must(t, e.Proclaim(soon(t), "two"))
	late := g.hold(t, 1, puts)
	ctx, giveUp := context.WithCancel(soon(t))
	defer giveUp()
	done := make(chan error, 1)
	go func() { done <- e.Proclaim(ctx, "old") }()
	late.await(t, "the proclamation")
	giveUp()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Proclaim: %v", err)
	}
	must(t, e.Proclaim(soon(t), "new"))
	g.let(late)
	checkLeader(t, e, "new")
}

// TestABarrierThatIsRaisedLateStands shows what Hold warns of: nobody is left who
// would take it down.
func TestABarrierThatIsRaisedLateStands(t *testing.T) {
	t.Parallel()
	var g gate
	c := etcdtest.New(t, g.option())
	b := concurrency.NewBarrier(newClient(t, c), "barrier")
	late := g.hold(t, 1, puts)
	held := lockInBackground(t, b.Hold)
	late.await(t, "the request")
	c.Member(0).ClientLink().Reset()
	must(t, <-held)
	must(t, b.Release(soon(t)))
	must(t, b.Wait(soon(t)))
	g.let(late)
	if n := len(keys(t, c, "barrier")); n != 1 {
		t.Errorf("%d barriers stand", n)
	}
	must(t, b.Release(soon(t)))
	must(t, b.Wait(soon(t)))
}

// TestAKeyIsLookedOutForWhateverIsWaitedFor has the request to create a key come
// late, after somebody has waited for what is done in the background.
func TestAKeyIsLookedOutForWhateverIsWaitedFor(t *testing.T) {
	t.Parallel()
	// again takes what a request on its way is for once more, and fails to give it
	// back, and then waits for that.
	again := func(t *testing.T, c *etcdtest.Cluster, g *gate, take, give func(context.Context) error) (creation *hold) {
		creation = g.hold(t, 1, puts)
		taken := lockInBackground(t, take)
		creation.await(t, "the request")
		c.Member(0).ClientLink().Reset()
		must(t, <-taken)
		deletion := g.hold(t, -1, deletes)
		if err := give(within(t, 100*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("given back: %v", err)
		}
		g.let(deletion)
		must(t, give(soon(t)))
		return creation
	}
	for name, wait := range map[string]func(t *testing.T, c *etcdtest.Cluster, g *gate, s *concurrency.Session) (creation *hold){
		"Unlock": func(t *testing.T, c *etcdtest.Cluster, g *gate, s *concurrency.Session) *hold {
			m := concurrency.NewMutex(s, "key")
			return again(t, c, g, m.Lock, m.Unlock)
		},
		"Resign": func(t *testing.T, c *etcdtest.Cluster, g *gate, s *concurrency.Session) *hold {
			e := concurrency.NewElection(s, "key")
			return again(t, c, g, func(ctx context.Context) error { return e.Campaign(ctx, "x") }, e.Resign)
		},
		"a Campaign that gives up": func(t *testing.T, _ *etcdtest.Cluster, g *gate, s *concurrency.Session) *hold {
			e := concurrency.NewElection(s, "key")
			creation := quit(t, g, e)
			lookedFor(t, g)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := e.Campaign(ctx, "x"); !errors.Is(err, context.Canceled) {
				t.Errorf("Campaign: %v", err)
			}
			return creation
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var g gate
			c := etcdtest.New(t, g.option())
			creation := wait(t, c, &g, session(t, newClient(t, c)))
			g.let(creation)
			until(t, "the key to go", func() bool { return len(keys(t, c, "key/")) == 0 })
		})
	}
}
