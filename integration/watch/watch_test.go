package watch_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// client returns a client of etcdcall, closed when the test is over.
func client(t testing.TB, c *etcdtest.Cluster, opts ...etcdcall.Option) *clientv3.Client {
	t.Helper()
	cli, err := etcdcall.New(c.Config(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	return cli
}

// truth returns a client that no fault touches.
func truth(t testing.TB, c *etcdtest.Cluster) *clientv3.Client {
	t.Helper()
	leader, err := c.WaitLeader(soon(t))
	must(t, err)
	cli, err := leader.Truth()
	must(t, err)
	return cli
}

func watch(t testing.TB, w clientv3.Watcher, key string, opts ...clientv3.OpOption) *etcdcall.Watch {
	t.Helper()
	watch, err := etcdcall.NewWatch(t.Context(), w, key, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watch.Stop)
	return watch
}

// expect waits for the next event and checks its value.
func expect(t *testing.T, w *etcdcall.Watch, value string) *etcdcall.Changes {
	t.Helper()
	c, err := w.Next(soon(t))
	if err != nil {
		t.Fatalf("waiting for %q: %v", value, err)
	}
	if len(c.Events) != 1 || string(c.Events[0].Kv.Value) != value {
		t.Fatalf("got %v, want one event with the value %q", c.Events, value)
	}
	return c
}

func put(t testing.TB, kv clientv3.KV, key, value string) int64 {
	t.Helper()
	resp, err := kv.Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

func TestAWatchHandsOutWhatHappensAfterItBegan(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := client(t, c)
	put(t, cli, "p/a", "before")
	w := watch(t, cli, "p/", clientv3.WithPrefix())
	put(t, cli, "q", "elsewhere")
	rev := put(t, cli, "p/b", "one")
	if got := expect(t, w, "one"); got.Revision != rev || got.Origin != etcdcall.Watched {
		t.Errorf("got revision %d, origin %v, want %d of a watch", got.Revision, got.Origin, rev)
	}
	if w.Revision() != rev {
		t.Errorf("the watch says that it has come to revision %d, want %d", w.Revision(), rev)
	}
	past := watch(t, cli, "p/", clientv3.WithPrefix(), clientv3.WithRev(1))
	expectAll(t, past, "before", "one")
}

// expectAll waits for events with the given values, in whatever portions.
func expectAll(t *testing.T, w *etcdcall.Watch, values ...string) {
	t.Helper()
	for _, want := range values {
		for ev, err := range w.Events() {
			if err != nil {
				t.Fatalf("waiting for %q: %v", want, err)
			}
			if string(ev.Kv.Value) != want {
				t.Fatalf("got %q, want %q", ev.Kv.Value, want)
			}
			break
		}
	}
}

func TestAWatchTellsItsThreeEndsApart(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := client(t, c)
	why := errors.New("the reason")
	ended := func(end func(w *etcdcall.Watch, cancel context.CancelCauseFunc), opts ...clientv3.OpOption) error {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		w, err := etcdcall.NewWatch(ctx, cli, "key", opts...)
		must(t, err)
		end(w, cancel)
		_, err = w.Next(soon(t))
		if again := w.Err(); !errors.Is(again, err) {
			t.Errorf("Next says %v and Err %v", err, again)
		}
		return err
	}

	err := ended(func(_ *etcdcall.Watch, cancel context.CancelCauseFunc) { cancel(why) })
	if !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
		t.Errorf("ended by its context: got %v, want one that is both Canceled and the cause", err)
	}
	err = ended(func(w *etcdcall.Watch, _ context.CancelCauseFunc) { w.Stop() })
	if !errors.Is(err, etcdcall.ErrStopped) {
		t.Errorf("ended by Stop: got %v", err)
	}
	for range 3 {
		put(t, cli, "key", "value")
	}
	_, err = cli.Compact(t.Context(), 3)
	must(t, err)
	err = ended(func(*etcdcall.Watch, context.CancelCauseFunc) {}, clientv3.WithRev(1))
	broken, ok := errors.AsType[*etcdcall.WatchError](err)
	if !ok || broken.Reason != etcdcall.WatchCompacted || broken.CompactRevision != 3 || !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("broken by compaction: got %#v", err)
	}
}

func TestALoopOverAWatchEndsSilentlyWhenItIsStopped(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := client(t, c)
	w := watch(t, cli, "key")
	put(t, cli, "key", "one")
	n := 0
	for _, err := range w.All() {
		if n++; err != nil {
			t.Fatal(err)
		}
		w.Stop()
	}
	if n != 1 {
		t.Errorf("the loop ran %d times, want 1", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, err := etcdcall.NewWatch(ctx, cli, "key")
	must(t, err)
	cancel()
	for _, err = range w.All() {
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a watch whose context ended: the loop yielded %v", err)
	}
}

func TestAWatchResumesAfterEveryKindOfBreak(t *testing.T) {
	t.Parallel()
	const patience = 100 * time.Millisecond
	for _, members := range []int{1, 3} {
		c := etcdtest.New(t, etcdtest.WithMembers(members), etcdtest.WithTick(50*time.Millisecond, 500*time.Millisecond))
		breaks := map[string]func(m *etcdtest.Member) (heal func() error){
			"a reset": func(m *etcdtest.Member) func() error { m.ClientLink().Reset(); return nil },
			"a cut":   func(m *etcdtest.Member) func() error { must(t, m.ClientLink().Cut()); return m.ClientLink().Heal },
			"a black hole": func(m *etcdtest.Member) func() error {
				must(t, m.ClientLink().BlackHole(etcdtest.Both))
				return m.ClientLink().Heal
			},
			"a kill": func(m *etcdtest.Member) func() error {
				must(t, m.Kill())
				return func() error { return m.Restart(t.Context()) }
			},
		}
		for name, breaks := range breaks {
			t.Run(fmt.Sprintf("%s, %d members", name, members), func(t *testing.T) {
				cli := client(t, c, etcdcall.WithWatchSilence(patience))
				w := watch(t, cli, "key")
				putTruth(t, c, "key", "before "+name)
				expect(t, w, "before "+name)
				var heals []func() error
				for _, m := range c.Members() {
					if heal := breaks(m); heal != nil {
						heals = append(heals, heal)
					}
				}
				errs := make(chan error, len(heals))
				for _, heal := range heals {
					go func() { errs <- heal() }()
				}
				for range heals {
					must(t, <-errs)
				}
				for i := range 3 {
					putTruth(t, c, "key", fmt.Sprint("after", i))
				}
				expectAll(t, w, "after0", "after1", "after2")
			})
		}
	}
}

func TestAWatchAsksForTheSameAgainAfterABreak(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := client(t, c)
	puts := watch(t, cli, "key", clientv3.WithPrevKV(), clientv3.WithFilterDelete())
	deletions := watch(t, cli, "key", clientv3.WithPrevKV(), clientv3.WithFilterPut())
	put(t, truth(t, c), "key", "0")
	expect(t, puts, "0")
	for _, value := range []string{"1", "2"} {
		c.Member(0).ClientLink().Reset()
		before := put(t, truth(t, c), "key", "before "+value)
		_, err := truth(t, c).Delete(t.Context(), "key")
		must(t, err)
		put(t, truth(t, c), "key", value)
		put(t, truth(t, c), "key", value+" again")
		// The portions are as the breaks made them.
		for _, want := range []struct {
			watch       *etcdcall.Watch
			value, prev string
		}{{puts, "before " + value, ""}, {puts, value, ""}, {puts, value + " again", value}, {deletions, "", "before " + value}} {
			for ev, err := range want.watch.Events() {
				must(t, err)
				got := string(ev.PrevKv.GetValue())
				if string(ev.Kv.Value) != want.value || got != want.prev && ev.Kv.ModRevision != before {
					t.Errorf("got %v with the previous value %q, want %q with %q", ev, got, want.value, want.prev)
				}
				break
			}
		}
	}
}
