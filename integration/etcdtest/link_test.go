package etcdtest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

// waitFor waits for a condition of the cluster.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := soon(t)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// short is a context for a call that is to fail.
func short(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// onceOnly makes a client that sends each call once, connected.
func onceOnly(t *testing.T, c *etcdtest.Cluster) *clientv3.Client {
	t.Helper()
	cfg := c.Config()
	cfg.MaxUnaryRetries = 1
	cli, err := clientv3.New(cfg)
	must(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	_, err = cli.Get(soon(t), "connect")
	must(t, err)
	return cli
}

// version returns how many times a key was written, whatever the network says.
func version(t *testing.T, c *etcdtest.Cluster, key string) int64 {
	t.Helper()
	truth, err := c.Member(0).Truth()
	must(t, err)
	r, err := truth.Get(soon(t), key)
	must(t, err)
	if len(r.Kvs) == 0 {
		return 0
	}
	return r.Kvs[0].Version
}

// abandoned makes a call that gets no answer, gives it up when the condition
// holds, and returns its error.
func abandoned(t *testing.T, what string, ok func() bool, call func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithCancel(soon(t))
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- call(ctx) }()
	waitFor(t, what, ok)
	cancel()
	return <-ended
}

// code finds the gRPC code in what clientv3 returns.
func code(err error) codes.Code {
	if etcd, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return etcd.Code()
	}
	if errors.Is(err, context.Canceled) {
		return codes.Canceled
	}
	return status.Code(err)
}

func TestALinkFailsAndHeals(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]struct {
		fault   func(*etcdtest.Link) error
		applied int64
	}{
		"cut":                 {(*etcdtest.Link).Cut, 0},
		"requests swallowed":  {func(l *etcdtest.Link) error { return l.BlackHole(etcdtest.Requests) }, 0},
		"responses swallowed": {func(l *etcdtest.Link) error { return l.BlackHole(etcdtest.Responses) }, 1},
		"both swallowed":      {func(l *etcdtest.Link) error { return l.BlackHole(etcdtest.Both) }, 0},
		"refused": {func(l *etcdtest.Link) error {
			err := l.Refuse()
			l.Reset()
			return err
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t)
			cli, l := onceOnly(t, c), c.Member(0).ClientLink()
			must(t, f.fault(l))
			write := func(ctx context.Context) error {
				_, err := cli.Put(ctx, "key", "value")
				return err
			}
			var err error
			if f.applied > 0 {
				err = abandoned(t, "the write", func() bool { return version(t, c, "key") > 0 }, write)
			} else {
				err = write(short(t))
			}
			if err == nil {
				t.Error("the call went through")
			}
			if got := version(t, c, "key"); got != f.applied {
				t.Errorf("the write was applied %d times, want %d", got, f.applied)
			}
			must(t, l.Heal())
			_, err = c.Client(t).Get(soon(t), "key")
			must(t, err)
			_, err = cli.Get(soon(t), "key", clientv3.WithSerializable())
			if err != nil && code(err) != codes.Unavailable {
				t.Errorf("the client that was cut off: %v", err)
			}
		})
	}
}

func TestRefuseLeavesStandingConnectionsAlone(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := onceOnly(t, c)
	must(t, c.Member(0).ClientLink().Refuse())
	_, err := cli.Put(soon(t), "key", "value")
	must(t, err)
	stranger, err := clientv3.New(c.Config())
	must(t, err)
	defer func() { _ = stranger.Close() }()
	if _, err := stranger.Get(short(t), "key"); err == nil {
		t.Error("a new connection was welcome")
	}
}

func TestABlackHoleThatIsLiftedResetsTheConnection(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli, l := onceOnly(t, c), c.Member(0).ClientLink()
	events := cli.Watch(soon(t), "key", clientv3.WithCreatedNotify())
	if r := <-events; !r.Created {
		t.Fatalf("got %v, want the watch to be created", r)
	}
	must(t, l.BlackHole(etcdtest.Responses))
	truth, err := c.Member(0).Truth()
	must(t, err)
	for range 3 {
		_, err := truth.Put(soon(t), "key", "value")
		must(t, err)
	}
	if _, err := cli.Put(short(t), "other", "value"); err == nil {
		t.Fatal("the call went through")
	}
	must(t, l.Heal())
	// The watch resumes on a new connection, so that nothing is missing.
	for want := int64(1); want <= 3; {
		for _, e := range (<-events).Events {
			if e.Kv.Version != want {
				t.Errorf("got version %d, want %d", e.Kv.Version, want)
			}
			want++
		}
	}
}

func TestDelayMakesCallsTakeLonger(t *testing.T) {
	t.Parallel()
	const by = 60 * time.Millisecond
	for name, d := range map[string]etcdtest.Direction{
		"requests": etcdtest.Requests, "responses": etcdtest.Responses, "both": etcdtest.Both,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t)
			cli, l := onceOnly(t, c), c.Member(0).ClientLink()
			must(t, l.Delay(d, by))
			want := by
			if d == etcdtest.Both {
				want = 2 * by
			}
			start := time.Now()
			_, err := cli.Put(soon(t), "key", "value")
			must(t, err)
			if took := time.Since(start); took < want {
				t.Errorf("took %v, want at least %v", took, want)
			}
		})
	}
}

func TestDelayLetsMuchBeUnderWay(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli, l := onceOnly(t, c), c.Member(0).ClientLink()
	const n, delay = 200, 250 * time.Millisecond
	must(t, l.Delay(etcdtest.Requests, delay))
	errs := make(chan error, n)
	start := time.Now()
	for range n {
		go func() {
			_, err := cli.Put(soon(t), "key", "value")
			errs <- err
		}()
	}
	for range n {
		must(t, <-errs)
	}
	if took := time.Since(start); took > n*delay/3 {
		t.Errorf("%d calls at once took %v: they queued behind each other", n, took)
	}
	if got := version(t, c, "key"); got != n {
		t.Errorf("applied %d times, want %d", got, n)
	}
}

func TestLoseResponseLosesExactlyTheNext(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli, l := onceOnly(t, c), c.Member(0).ClientLink()
	for i := range int64(20) {
		must(t, l.LoseResponse())
		if _, err := cli.Put(soon(t), "key", "value"); code(err) != codes.Unavailable {
			t.Fatalf("round %d: got %v, want Unavailable", i, err)
		}
		if got := version(t, c, "key"); got != 2*i+1 {
			t.Fatalf("round %d: applied %d times, want %d", i, got, 2*i+1)
		}
		_, err := cli.Put(soon(t), "key", "value")
		must(t, err)
	}
}

func TestResetStreamsEndsWhatIsOpen(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli, l := onceOnly(t, c), c.Member(0).ClientLink()
	in, err := c.Inject(etcdtest.Fault{Method: etcdtest.MethodPut, After: true, Answer: etcdtest.Hang()})
	must(t, err)
	failed := make(chan error, 1)
	go func() {
		_, err := cli.Put(soon(t), "key", "value")
		failed <- err
	}()
	must(t, in.Wait(soon(t)))
	before := l.Connections()
	n, err := l.ResetStreams(http2.ErrCodeCancel)
	must(t, err)
	if n != 1 {
		t.Errorf("ended %d streams, want the Put", n)
	}
	if err := <-failed; code(err) != codes.Canceled {
		t.Errorf("got %v, want Canceled", err)
	}
	if got := version(t, c, "key"); got != 1 {
		t.Errorf("applied %d times, want 1", got)
	}
	_, err = cli.Get(soon(t), "key")
	must(t, err)
	if got := l.Connections(); got != before {
		t.Errorf("%d connections after the reset, %d before", got, before)
	}
}

func TestMembersDoNotTalkHTTP2ToEachOther(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	if err := c.Member(0).PeerLink().LoseResponse(); err == nil {
		t.Error("no error for a fault that a peer link cannot have")
	}
}
