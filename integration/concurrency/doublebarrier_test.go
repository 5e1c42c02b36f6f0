package concurrency_test

import (
	"context"
	"errors"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// pair is the two members of a double barrier.
type pair struct {
	*etcdtest.Cluster
	sessions [2]*concurrency.Session
	members  [2]*concurrency.DoubleBarrier
}

func newPair(t *testing.T, opts ...etcdtest.Option) *pair {
	t.Helper()
	p := &pair{Cluster: etcdtest.New(t, opts...)}
	for i := range p.members {
		p.sessions[i] = session(t, newClient(t, p.Cluster))
		p.members[i] = concurrency.NewDoubleBarrier(p.sessions[i], "pair", len(p.members))
	}
	return p
}

// enter has both enter.
func (p *pair) enter(t *testing.T) {
	t.Helper()
	entered := lockInBackground(t, p.members[0].Enter)
	must(t, p.members[1].Enter(soon(t)))
	must(t, <-entered)
}

// leave has both leave.
func (p *pair) leave(t *testing.T) {
	t.Helper()
	left := lockInBackground(t, p.members[0].Leave)
	must(t, p.members[1].Leave(soon(t)))
	must(t, <-left)
}

// present waits until n members are there.
func (p *pair) present(t *testing.T, n int) {
	t.Helper()
	until(t, "members to come or go", func() bool { return len(keys(t, p.Cluster, "pair/members/")) == n })
}

func TestAMemberWhoIsInsideDoesNotEnterAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.enter(t)
	left := lockInBackground(t, p.members[1].Leave)
	p.present(t, 1)
	// There is room for a second key, and it would be the same member's.
	if err := p.members[0].Enter(soon(t)); err != concurrency.ErrTooManyMembers { //nolint:errorlint // the very error is promised
		t.Errorf("Enter: %v", err)
	}
	must(t, p.members[0].Leave(soon(t)))
	must(t, <-left)
	if err := p.members[0].Leave(soon(t)); err != concurrency.ErrLockReleased { //nolint:errorlint // the very error is promised
		t.Errorf("Leave again: %v", err)
	}
}

func TestAMemberWhoGivesUpHasNotEntered(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	one := p.members[0]
	if err := one.Enter(within(t, 100*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Enter: %v", err)
	}
	p.present(t, 0)
	if err := one.Leave(soon(t)); err != concurrency.ErrLockReleased { //nolint:errorlint // the very error is promised
		t.Errorf("Leave: %v", err)
	}
	p.enter(t)
	p.leave(t)
}

func TestAMemberWhoGivesUpWhileLeavingHasLeft(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.enter(t)
	if err := p.members[0].Leave(within(t, 100*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Leave: %v", err)
	}
	p.present(t, 1)
	// The other is in the last round still, and has not entered the next.
	if err := p.members[0].Enter(within(t, 300*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Enter: %v", err)
	}
	must(t, p.members[1].Leave(soon(t)))
	p.enter(t)
	p.leave(t)
}

func TestAMemberWhoWasRemovedCannotLeave(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.enter(t)
	key := string(leased(t, p.Cluster, p.sessions[0])[0])
	_, err := truth(t, p.Cluster).Delete(soon(t), key)
	must(t, err)
	err = p.members[0].Leave(soon(t))
	if lost, ok := errors.AsType[*concurrency.LostError](err); !ok || lost.Key != key {
		t.Errorf("Leave: %v", err)
	}
	must(t, p.members[1].Leave(soon(t)))
}

// TestAMemberWhoSeesNothingIsNotToldThatAllIsWell lets nobody read, so that what is
// followed is begun anew until the deadline.
func TestAMemberWhoSeesNothingIsNotToldThatAllIsWell(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	entering := newPair(t)
	p.enter(t)
	for _, c := range []*etcdtest.Cluster{p.Cluster, entering.Cluster} {
		_, err := c.Inject(etcdtest.Fault{Method: etcdtest.MethodRange, Calls: -1, Answer: etcdtest.Fail(rpctypes.ErrPermissionDenied)})
		must(t, err)
	}
	if err := entering.members[0].Enter(within(t, 300*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Enter: %v", err)
	}
	if err := p.members[0].Leave(within(t, 300*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Leave: %v", err)
	}
}

func TestAMemberWhoseKeyIsGoneHasNotEntered(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	entered := lockInBackground(t, p.members[0].Enter)
	p.present(t, 1)
	key := keys(t, p.Cluster, "pair/members/")[0]
	_, err := truth(t, p.Cluster).Delete(soon(t), key)
	must(t, err)
	err = <-entered
	if lost, ok := errors.AsType[*concurrency.LostError](err); !ok || lost.Key != key {
		t.Errorf("Enter: %v", err)
	}
	p.enter(t)
	p.leave(t)
}

func TestAMemberEndsWithItsSession(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]func(t *testing.T, p *pair) <-chan error{
		"Enter": func(t *testing.T, p *pair) <-chan error {
			entered := lockInBackground(t, p.members[0].Enter)
			p.present(t, 1)
			return entered
		},
		"Leave": func(t *testing.T, p *pair) <-chan error {
			p.enter(t)
			left := lockInBackground(t, p.members[0].Leave)
			p.present(t, 1)
			return left
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			waited := wait(t, p)
			p.sessions[0].Orphan()
			if err := <-waited; !errors.Is(err, concurrency.ErrSessionExpired) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// begins says that a request begins a round.
func begins(req any) bool {
	txn, _ := req.(*pb.TxnRequest)
	return puts(req) && string(txn.Success[0].GetRequestPut().Key) == "pair/begun"
}

// TestABeginningThatComesLateBeginsNoOtherRound has the request that begins a round
// arrive a second time, in the next round.
func TestABeginningThatComesLateBeginsNoOtherRound(t *testing.T) {
	t.Parallel()
	var g gate
	p := newPair(t, g.option())
	late := g.hold(t, 1, begins)
	first, second := lockInBackground(t, p.members[0].Enter), lockInBackground(t, p.members[1].Enter)
	late.await(t, "the beginning")
	p.Member(0).ClientLink().Reset()
	must(t, <-first)
	must(t, <-second)
	p.leave(t)

	ctx, giveUp := context.WithCancel(soon(t))
	defer giveUp()
	alone := make(chan error, 1)
	go func() { alone <- p.members[0].Enter(ctx) }()
	p.present(t, 1)
	began := modRevision(t, p.Cluster, "pair/begun")
	g.let(late)
	if modRevision(t, p.Cluster, "pair/begun") != began {
		t.Error("a round has begun with one member")
	}
	giveUp()
	if err := <-alone; !errors.Is(err, context.Canceled) {
		t.Errorf("Enter: %v", err)
	}
}

func modRevision(t *testing.T, c *etcdtest.Cluster, key string) int64 {
	t.Helper()
	resp, err := truth(t, c).Get(soon(t), key)
	must(t, err)
	if len(resp.Kvs) == 0 {
		return 0
	}
	return resp.Kvs[0].ModRevision
}

func TestARoundThatCannotBeginIsAnError(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	_, err := p.Inject(etcdtest.Fault{
		Match: func(_ string, req any) bool { return begins(req) }, Calls: -1, Answer: etcdtest.Fail(rpctypes.ErrPermissionDenied),
	})
	must(t, err)
	// When one has failed, it is not there any more, and the other may never have
	// seen it.
	entered := make(chan error, len(p.members))
	for _, m := range p.members {
		ctx := soon(t)
		go func() { entered <- m.Enter(ctx) }()
	}
	if err := <-entered; !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("Enter: %v", err)
	}
	for _, s := range p.sessions {
		s.Orphan()
	}
	<-entered
}
