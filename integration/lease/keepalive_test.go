package lease_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// closed waits until the channel of a lease closes, and returns when it did and
// the responses that came before.
func closed(t *testing.T, c <-chan *clientv3.LeaseKeepAliveResponse) (at time.Time, responses int) {
	t.Helper()
	for ctx := soon(t); ; {
		select {
		case _, open := <-c:
			if !open {
				return time.Now(), responses
			}
			responses++
		case <-ctx.Done():
			t.Fatal("the channel does not close")
		}
	}
}

// lives reports how long the server keeps a lease, without a fault between.
func lives(t *testing.T, c *etcdtest.Cluster, id clientv3.LeaseID) int64 {
	t.Helper()
	r, err := truth(t, c).TimeToLive(soon(t), id)
	must(t, err)
	return r.TTL
}

func TestKeepAliveOnceRidesThroughWhatPasses(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]etcdtest.Fault{
		"the answer is lost":      {Calls: 3, After: true, Answer: etcdtest.Lose()},
		"the request is lost":     {Calls: 3, Answer: etcdtest.Lose()},
		"the server falls silent": {Calls: 2, Answer: etcdtest.Hang()},
		"no leader is known":      {Calls: 3, Answer: etcdtest.Fail(rpctypes.ErrNoLeader)},
		"the server is down":      {Calls: 3, Answer: etcdtest.Fail(status.Error(codes.Unavailable, "down"))},
		"the stream just ends":    {Calls: 2, After: true, Answer: etcdtest.Fail(status.Error(codes.Internal, "broken framing"))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t)
			cli := client(t, c.Config(), etcdcall.WithAttemptTimeout(200*time.Millisecond))
			id := grant(t, cli, 600)
			fault.Method = etcdtest.MethodKeepAlive
			injected, err := c.Inject(fault)
			must(t, err)
			r, err := cli.KeepAliveOnce(soon(t), id)
			if err != nil || r.ID != id || r.TTL != 600 || r.ResponseHeader.GetRevision() == 0 {
				t.Errorf("got %+v, %v", r, err)
			}
			if injected.Fired() != fault.Calls {
				t.Errorf("%d of %d faults were met", injected.Fired(), fault.Calls)
			}
		})
	}
}

func TestKeepAliveOnceSaysThatALeaseIsGone(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	for name, end := range map[string]func(id clientv3.LeaseID){
		"revoked": func(id clientv3.LeaseID) { must(t, second(truth(t, c).Revoke(soon(t), id))) },
		"expired": func(id clientv3.LeaseID) { awaitExpiry(t, c, id) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cli := client(t, c.Config(), etcdcall.WithLeaseCheck(time.Hour))
			id := grant(t, cli, 1)
			end(id)
			if r, err := cli.KeepAliveOnce(soon(t), id); !errors.Is(err, rpctypes.ErrLeaseNotFound) || r != nil {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
	// What the call found out is told to the keepers of the lease.
	cli := client(t, c.Config(), etcdcall.WithLeaseCheck(time.Hour))
	id := grant(t, cli, 600)
	k := keep(t, cli, id)
	awaitRenewal(t, k, k.Until()) // the next one is 200 seconds away
	must(t, second(truth(t, c).Revoke(soon(t), id)))
	if _, err := cli.KeepAliveOnce(soon(t), id); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("got %v", err)
	}
	if err := awaitEnd(t, k); !lost(etcdcall.LeaseGone)(err) {
		t.Errorf("the keeper ended with %v", err)
	}
}

// awaitExpiry waits until the server does not know the lease any more.
func awaitExpiry(t *testing.T, c *etcdtest.Cluster, id clientv3.LeaseID) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx := soon(t); lives(t, c, id) >= 0; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the lease does not expire")
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestKeepAliveOnceEndsWithItsContext: the link swallows everything, and then
// nobody listens.
func TestKeepAliveOnceEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	link := c.Member(0).ClientLink()
	cli := client(t, c.Config())
	id := grant(t, cli, 600)
	for name, cut := range map[string]func() error{
		"a black hole": func() error { return link.BlackHole(etcdtest.Both) },
		"a cut":        link.Cut,
	} {
		must(t, cut())
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		began := time.Now()
		r, err := cli.KeepAliveOnce(ctx, id)
		if !errors.Is(err, context.DeadlineExceeded) || r != nil {
			t.Errorf("%s: got %+v, %v", name, r, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: it ended after %v", name, took)
		}
		cancel()
		must(t, link.Heal())
		if r, err := cli.KeepAliveOnce(soon(t), id); err != nil || r.TTL != 600 {
			t.Errorf("%s was healed: got %+v, %v", name, r, err)
		}
	}
}

// TestTheChannelOfALeaseClosesBeforeTheServerExpiresIt cuts the link, or makes
// it swallow everything, after the channel has told of renewals.
func TestTheChannelOfALeaseClosesBeforeTheServerExpiresIt(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*etcdtest.Link) error{
		"a black hole":             func(l *etcdtest.Link) error { return l.BlackHole(etcdtest.Both) },
		"a black hole for answers": func(l *etcdtest.Link) error { return l.BlackHole(etcdtest.Responses) },
		"a cut":                    (*etcdtest.Link).Cut,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t)
			cli := client(t, c.Config())
			id := grant(t, cli, 4)
			expired := onDelete(t, truth(t, c), "key", id)
			channel, err := cli.KeepAlive(t.Context(), id)
			must(t, err)
			if r := <-channel; r == nil || r.ID != id || r.TTL != 4 {
				t.Errorf("got %+v", r)
			}
			must(t, cut(c.Member(0).ClientLink()))
			believed, _ := closed(t, channel)
			if real := <-expired; believed.After(real) {
				t.Errorf("the channel closed %v after the lease had expired", believed.Sub(real))
			}
			if channel, err := cli.KeepAlive(t.Context(), id); err != nil {
				t.Errorf("keeping it again: %v", err)
			} else {
				must(t, c.Member(0).ClientLink().Heal())
				if _, n := closed(t, channel); n > 0 {
					t.Errorf("%d responses for a lease that has expired", n)
				}
			}
		})
	}
}

func TestTheChannelOfALeaseGoesOnAfterAFault(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := client(t, c.Config(), etcdcall.WithLeaseCheck(20*time.Millisecond), etcdcall.WithWatchSilence(200*time.Millisecond))
	channel, err := cli.KeepAlive(t.Context(), grant(t, cli, 60))
	must(t, err)
	link := c.Member(0).ClientLink()
	for name, fault := range map[string]func() error{
		"a reset":      func() error { link.Reset(); return nil },
		"a cut":        link.Cut,
		"a black hole": func() error { return link.BlackHole(etcdtest.Both) },
		"a restart":    c.Member(0).Kill,
	} {
		must(t, fault())
		if !c.Member(0).Running() {
			must(t, c.Member(0).Restart(soon(t)))
		}
		must(t, link.Heal())
		// Some responses may be from before.
		for n := range cap(channel) + 3 {
			select {
			case r := <-channel:
				if r == nil || r.TTL != 60 {
					t.Fatalf("after %s, response %d: %+v", name, n, r)
				}
			case <-soon(t).Done():
				t.Fatalf("after %s: no renewal", name)
			}
		}
	}
}

func TestASlowReaderOfOneLeaseDoesNotStallAnother(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := client(t, c.Config(), etcdcall.WithLeaseCheck(5*time.Millisecond))
	slow, fast := grant(t, cli, 60), grant(t, cli, 60)
	unread, err := cli.KeepAlive(t.Context(), slow)
	must(t, err)
	read, err := cli.KeepAlive(t.Context(), fast)
	must(t, err)
	k := keep(t, cli, slow)
	for range 5 * cap(unread) {
		if r := <-read; r == nil {
			t.Fatal("the channel that is read was closed")
		}
	}
	if len(unread) != cap(unread) {
		t.Fatalf("the channel that is not read holds %d of %d: it was not slow", len(unread), cap(unread))
	}
	awaitRenewal(t, k, k.Until()) // the lease that nobody reads is renewed all the same
	must(t, second(truth(t, c).Revoke(soon(t), slow)))
	if _, n := closed(t, unread); n != cap(unread) {
		t.Errorf("%d responses were kept, want %d", n, cap(unread))
	}
	if r := <-read; r == nil {
		t.Error("the loss of one lease closed the channel of another")
	}
}

// TestARevocationElsewhereIsNoticedAtTheNextCheck has clientv3 for a control: it
// believes in the lease until a third of its time has passed.
func TestARevocationElsewhereIsNoticedAtTheNextCheck(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	const ttl = 3600 // clientv3 asks again after 20 minutes
	for name, opts := range map[string][]etcdcall.Option{
		"by default":   nil,
		"each 100 ms":  {etcdcall.WithLeaseCheck(100 * time.Millisecond)},
		"all the time": {etcdcall.WithLeaseCheck(time.Nanosecond)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := client(t, c.Config(), opts...), raw(t, c.Config())
			id := grant(t, theirs, ttl)
			channel, err := ours.KeepAlive(t.Context(), id)
			must(t, err)
			control, err := theirs.KeepAlive(t.Context(), id)
			must(t, err)
			<-channel
			<-control
			must(t, second(truth(t, c).Revoke(soon(t), id)))
			revoked := time.Now()
			at, _ := closed(t, channel)
			t.Logf("noticed after %v", at.Sub(revoked))
			select {
			case _, open := <-control:
				t.Errorf("control: clientv3 noticed it too (open: %v)", open)
			default:
			}
			if lives(t, c, id) >= 0 {
				t.Error("the lease was not revoked")
			}
		})
	}
}

// TestALeaseThatIsNotOnesOwnIsRefused: etcd lets a user renew a lease only if
// the user may write all keys on it.
func TestALeaseThatIsNotOnesOwnIsRefused(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithAuth("secret"))
	root := client(t, c.Config())
	must(t, second(root.UserAdd(t.Context(), "guest", "guest")))
	must(t, second(root.RoleAdd(t.Context(), "writer")))
	must(t, second(root.RoleGrantPermission(t.Context(), "writer", "own", "", clientv3.PermissionType(clientv3.PermReadWrite))))
	must(t, second(root.UserGrantRole(t.Context(), "guest", "writer")))
	foreign, own := grant(t, root, 60), grant(t, root, 60)
	must(t, second(root.Put(t.Context(), "foreign", "", clientv3.WithLease(foreign))))
	must(t, second(root.Put(t.Context(), "own", "", clientv3.WithLease(own))))

	cfg := c.Config()
	cfg.Username, cfg.Password = "guest", "guest"
	guest := client(t, cfg, etcdcall.WithLeaseCheck(20*time.Millisecond))
	kept := keep(t, guest, own)
	awaitRenewal(t, kept, time.Now())
	k := keep(t, guest, foreign)
	err := awaitEnd(t, k)
	if !lost(etcdcall.LeaseRefused)(err) || !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("got %v (%T)", err, err)
	}
	if k.Until() != (time.Time{}) {
		t.Errorf("it was never renewed, and is held until %v", k.Until())
	}
	channel, err := guest.KeepAlive(t.Context(), foreign)
	must(t, err)
	if _, n := closed(t, channel); n > 0 {
		t.Errorf("%d responses for a lease that was refused", n)
	}
	if _, err := guest.KeepAliveOnce(soon(t), foreign); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("renewed once: got %v", err)
	}
	// The server ends the stream of all leases to refuse one.
	awaitRenewal(t, kept, kept.Until())
}

// TestALeaseIsKeptAfterItsTokenIsGone: a member that starts again knows none of
// the tokens that it gave out.
func TestALeaseIsKeptAfterItsTokenIsGone(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithAuth("secret"))
	cli := client(t, c.Config(), etcdcall.WithLeaseCheck(20*time.Millisecond))
	id := grant(t, cli, 600)
	must(t, second(cli.Put(t.Context(), "key", "", clientv3.WithLease(id))))
	k := keep(t, cli, id)
	awaitRenewal(t, k, time.Now().Add(-time.Hour))
	for range 2 {
		must(t, c.Member(0).Kill())
		killed := time.Now()
		must(t, c.Member(0).Restart(soon(t)))
		awaitRenewal(t, k, killed.Add(599*time.Second)) // by a request that was sent since
	}
	if err := k.Err(); err != nil {
		t.Error(err)
	}
}
