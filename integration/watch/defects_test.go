package watch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// The tests here show what goes wrong on clientv3, and that it does not here.

// raw returns a client of clientv3.
func raw(t testing.TB, c *etcdtest.Cluster) *clientv3.Client {
	t.Helper()
	return rawOf(t, c.Config())
}

func rawOf(t testing.TB, cfg clientv3.Config) *clientv3.Client {
	t.Helper()
	cli, err := clientv3.New(cfg)
	must(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	return cli
}

// response waits for the next response of a channel.
func response(t testing.TB, ch clientv3.WatchChan) (clientv3.WatchResponse, bool) {
	t.Helper()
	select {
	case r, ok := <-ch:
		return r, ok
	case <-soon(t).Done():
		t.Fatal("nothing comes from the channel")
		return clientv3.WatchResponse{}, false
	}
}

// silent reports whether nothing comes from a channel for d.
func silent(ch clientv3.WatchChan, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ch:
		return false
	case <-timer.C:
		return true
	}
}

// awaitRevision waits until w could resume after revision rev, which its
// bookmarks tell.
func awaitRevision(t testing.TB, w *etcdcall.Watch, rev int64) {
	t.Helper()
	for w.Revision() < rev {
		_, err := w.Next(soon(t))
		must(t, err)
	}
}

func TestAQuietWatchOutlivesCompaction(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := client(t, c, etcdcall.WithWatchSilence(100*time.Millisecond))
	w := watch(t, cli, "quiet", clientv3.WithProgressNotify())
	// It lags for ever, and with it all requests for the progress of a
	// stream that it were on.
	watch(t, cli, "quiet", clientv3.WithRev(1_000_000))
	control := raw(t, c).Watch(t.Context(), "quiet")

	for round := range 2 { // the second resumes a watch that was resumed
		var rev int64
		for range 10 {
			rev = put(t, truth(t, c), "other", "value")
		}
		awaitRevision(t, w, rev)
		_, err := c.Compact(soon(t), rev)
		must(t, err)
		c.Member(0).ClientLink().Reset()
		put(t, truth(t, c), "quiet", fmt.Sprint("still here ", round))
		expectAll(t, w, fmt.Sprint("still here ", round))
	}
	if r, _ := response(t, control); !errors.Is(r.Err(), rpctypes.ErrCompacted) {
		t.Errorf("control: clientv3 survived: %v, %v", r.Events, r.Err())
	}
}

func TestAWatchLeavesAMemberThatFallsSilent(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithMembers(3), calm)
	const bound = 200 * time.Millisecond
	cfg := c.Config()
	cfg.Endpoints = c.Endpoints()[:1] // the streams open there
	cli, err := etcdcall.New(cfg, etcdcall.WithWatchSilence(bound))
	must(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	control := rawOf(t, cfg)
	w := watch(t, cli, "key")
	channel := control.Watch(clientv3.WithRequireLeader(t.Context()), "key")
	putTruth(t, c, "key", "before")
	expectAll(t, w, "before")
	response(t, channel)

	cli.SetEndpoints(c.Endpoints()...)
	control.SetEndpoints(c.Endpoints()...)
	link := c.Member(0).ClientLink()
	must(t, link.BlackHole(etcdtest.Both))
	t.Cleanup(func() { _ = link.Heal() })
	began := time.Now()
	putTruth(t, c, "key", "after")
	expectAll(t, w, "after")
	t.Logf("heard of the change %v after the member fell silent, with a bound of %v", time.Since(began), bound)
	if !silent(channel, 5*bound) {
		t.Error("control: clientv3 noticed it too")
	}
}

func TestAWatchRidesThroughTheLossOfTheLeader(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithMembers(3), calm)
	cfg := c.Config()
	m := c.Member(0)
	cfg.Endpoints = []string{m.Endpoint()}
	cli, err := etcdcall.New(cfg)
	must(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	w := watch(t, cli, "key")
	channel := rawOf(t, cfg).Watch(clientv3.WithRequireLeader(t.Context()), "key")
	putTruth(t, c, "key", "before")
	expectAll(t, w, "before")
	response(t, channel)

	must(t, c.Isolate(m))
	if r, _ := response(t, channel); !errors.Is(r.Err(), rpctypes.ErrNoLeader) {
		t.Errorf("control: clientv3 got %v, %v", r.Events, r.Err())
	}
	must(t, c.HealPeers())
	putTruth(t, c, "key", "after")
	expectAll(t, w, "after")
}

func TestAWatchFromNowDoesNotTellWhatWasAcknowledgedBefore(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithMembers(3), calm)
	leader, err := c.WaitLeader(soon(t))
	must(t, err)
	lagging := c.Member(0)
	if lagging == leader {
		lagging = c.Member(1)
	}
	cfg := c.Config()
	cfg.Endpoints = []string{lagging.Endpoint()}
	cli, err := etcdcall.New(cfg)
	must(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	control := rawOf(t, cfg)
	_, err = control.Get(soon(t), "key") // connects
	must(t, err)
	must(t, lagging.PeerLink().Delay(etcdtest.Requests, 80*time.Millisecond))
	t.Cleanup(func() { _ = lagging.PeerLink().Heal() })

	// On a busy machine the member may have caught up before the watch of the
	// control begins.
	for i := range 100 {
		key := fmt.Sprint("key", i)
		putTruth(t, c, key, "acknowledged")
		channel := control.Watch(t.Context(), key)
		w := watch(t, cli, key)
		putTruth(t, c, key, "later")
		expectAll(t, w, "later")
		if r, _ := response(t, channel); len(r.Events) > 0 && string(r.Events[0].Kv.Value) == "acknowledged" {
			return
		}
	}
	t.Error("control: clientv3 never told of what was acknowledged before")
}

func TestAWatchIsGrantedOnAStreamWhoseTokenExpired(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithAuth("secret"), etcdtest.WithServerConfig(func(cfg *embed.Config) {
		cfg.AuthTokenTTL = 1
	}))
	cli, control := client(t, c), raw(t, c)
	first := watch(t, cli, "first")
	control.Watch(t.Context(), "first")

	// A token that nobody uses for its time is removed, on a busy machine
	// somewhat later.
	refused := false
	for range 5 {
		expired := time.NewTimer(2500 * time.Millisecond)
		<-expired.C
		r, _ := response(t, control.Watch(t.Context(), "second", clientv3.WithCreatedNotify()))
		if refused = r.Err() != nil; refused {
			break
		}
	}
	if !refused {
		t.Error("control: clientv3 is granted every watch")
	}
	second := watch(t, cli, "second")
	put(t, cli, "second", "one")
	expectAll(t, second, "one")
	put(t, cli, "first", "two")
	expectAll(t, first, "two")
}

func TestARefusedWatchSaysSo(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithAuth("secret"))
	root := client(t, c)
	_, err := root.UserAdd(t.Context(), "guest", "guest")
	must(t, err)
	_, err = root.RoleAdd(t.Context(), "reader")
	must(t, err)
	_, err = root.RoleGrantPermission(t.Context(), "reader", "own/", clientv3.GetPrefixRangeEnd("own/"), clientv3.PermissionType(clientv3.PermRead))
	must(t, err)
	_, err = root.UserGrantRole(t.Context(), "guest", "reader")
	must(t, err)
	cfg := c.Config()
	cfg.Username, cfg.Password = "guest", "guest"
	guest, err := etcdcall.New(cfg)
	must(t, err)
	t.Cleanup(func() { _ = guest.Close() })

	// The right to read what it watches is all that a watch needs.
	w := watch(t, guest, "own/", clientv3.WithPrefix())
	put(t, root, "own/key", "value")
	expectAll(t, w, "value")

	if _, err := etcdcall.NewWatch(t.Context(), guest, "foreign"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("from now: got %v", err)
	}
	w = watch(t, guest, "foreign", clientv3.WithRev(1))
	_, err = w.Next(soon(t))
	if broken, ok := errors.AsType[*etcdcall.WatchError](err); !ok || broken.Reason != etcdcall.WatchRefused || !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("from a revision: got %v", err)
	}
	channel := guest.Watch(t.Context(), "foreign", clientv3.WithRev(1))
	// clientv3 drops the last response of a watch that nobody reads for 250 ms.
	late := time.NewTimer(400 * time.Millisecond)
	<-late.C
	if r, ok := response(t, channel); !ok || !errors.Is(r.Err(), rpctypes.ErrPermissionDenied) {
		t.Errorf("by the channel: got %v", r.Err())
	}
	if _, ok := response(t, channel); ok {
		t.Error("the channel stays open")
	}
}

func TestAWatchNoticesThatTheStoreWentBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := etcdtest.New(t, etcdtest.WithDir(dir))
	m := c.Member(0)
	cli := client(t, c)
	put(t, truth(t, c), "key", "backed up")
	must(t, m.Stop())
	data, err := filepath.Glob(filepath.Join(dir, "*", m.Name()))
	must(t, err)
	if len(data) != 1 {
		t.Fatalf("found %v", data)
	}
	backup := t.TempDir()
	must(t, os.CopyFS(backup, os.DirFS(data[0])))
	must(t, m.Restart(soon(t)))

	w := watch(t, cli, "key")
	channel := raw(t, c).Watch(t.Context(), "key")
	for i := range 5 {
		put(t, truth(t, c), "key", fmt.Sprint(i))
		expectAll(t, w, fmt.Sprint(i))
		response(t, channel)
	}
	must(t, m.Stop())
	must(t, os.RemoveAll(data[0]))
	must(t, os.CopyFS(data[0], os.DirFS(backup)))
	must(t, m.Restart(soon(t)))
	put(t, truth(t, c), "key", "in the other history")

	_, err = w.Next(soon(t))
	if broken, ok := errors.AsType[*etcdcall.WatchError](err); !ok || broken.Reason != etcdcall.WatchRestored {
		t.Errorf("got %v", err)
	}
	if !silent(channel, time.Second) {
		t.Error("control: clientv3 told of what happened after the restore")
	}
}

func TestASlowReaderMissesNothing(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	const kept = 64 << 10
	cli := client(t, c, etcdcall.WithWatchBuffer(kept))
	slow := watch(t, cli, "p/", clientv3.WithPrefix())
	fast := watch(t, cli, "p/", clientv3.WithPrefix()) // on the same stream
	value := string(make([]byte, 4<<10))
	const n = 400
	for i := range n {
		put(t, truth(t, c), fmt.Sprint("p/", i), value)
	}
	for _, w := range []*etcdcall.Watch{fast, slow} {
		i := 0
		for ev, err := range w.Events() {
			must(t, err)
			if want := fmt.Sprint("p/", i); string(ev.Kv.Key) != want {
				t.Fatalf("got %s, want %s", ev.Kv.Key, want)
			}
			if i++; i == n {
				break
			}
		}
	}
}

func TestFiveHundredWatchesOpenAtLeastEightTimesFaster(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli, control := client(t, c), raw(t, c)
	_, err := cli.Get(soon(t), "key")
	must(t, err)
	_, err = control.Get(soon(t), "key")
	must(t, err)
	must(t, c.Member(0).ClientLink().Delay(etcdtest.Both, 2*time.Millisecond)) // 4 ms there and back
	open := func(w clientv3.Watcher) time.Duration {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := time.Now()
		var all sync.WaitGroup
		for i := range 500 {
			all.Go(func() { w.Watch(ctx, fmt.Sprint("key", i)) })
		}
		all.Wait()
		return time.Since(began)
	}
	for range 5 { // on a busy machine more than once
		theirs, ours := open(control), open(cli)
		t.Logf("500 watches at 4 ms: clientv3 %v, etcdcall %v, %.1f times faster", theirs, ours, float64(theirs)/float64(ours))
		if raceDetector || ours*8 <= theirs {
			return
		}
	}
	t.Error("it never is eight times faster")
}
