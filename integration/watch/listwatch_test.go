package watch_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func listWatch(t testing.TB, cli *clientv3.Client, key string, opts ...clientv3.OpOption) *etcdcall.ListWatch {
	t.Helper()
	l, err := etcdcall.NewListWatch(t.Context(), cli, key, opts...)
	must(t, err)
	t.Cleanup(l.Stop)
	return l
}

// replica is a map that events keep in step.
type replica map[string]string

func (r replica) apply(events []*clientv3.Event) {
	for _, ev := range events {
		if ev.Type == clientv3.EventTypeDelete {
			delete(r, string(ev.Kv.Key))
		} else {
			r[string(ev.Kv.Key)] = string(ev.Kv.Value)
		}
	}
}

// stored reads what keys with the prefix the store holds.
func stored(t testing.TB, kv clientv3.KV, prefix string) replica {
	t.Helper()
	r, err := readStored(t.Context(), kv, prefix)
	must(t, err)
	return r
}

func readStored(ctx context.Context, kv clientv3.KV, prefix string) (replica, error) {
	resp, err := kv.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	r := replica{}
	for _, kv := range resp.Kvs {
		r[string(kv.Key)] = string(kv.Value)
	}
	return r, nil
}

// follow applies changes to r until it has come to revision rev, and returns
// how many events came of each origin.
func follow(t testing.TB, l *etcdcall.ListWatch, r replica, rev int64) map[etcdcall.Origin]int {
	t.Helper()
	n := map[etcdcall.Origin]int{}
	for l.Revision() < rev {
		c, err := l.Next(soon(t))
		must(t, err)
		r.apply(c.Events)
		n[c.Origin] += len(c.Events)
	}
	return n
}

func TestAListWatchListsInPagesOfOneRevisionAndThenWatches(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := client(t, c)
	const keys = 1200
	for i := range keys {
		put(t, truth(t, c), fmt.Sprintf("p/%04d", i), "old")
	}
	l := listWatch(t, cli, "p/", clientv3.WithPrefix())
	first, err := l.Next(soon(t))
	must(t, err)
	if !first.More || first.Origin != etcdcall.Listed || l.Revision() != 0 {
		t.Fatalf("got %d events, more %v, origin %v, revision %d", len(first.Events), first.More, first.Origin, l.Revision())
	}
	// What changes while the other pages are read does not show in them.
	r := replica{}
	r.apply(first.Events)
	put(t, truth(t, c), "p/1199", "new")
	last := put(t, truth(t, c), "p/0000", "new")
	n := follow(t, l, r, last-1)
	if total := len(first.Events) + n[etcdcall.Listed]; total != keys {
		t.Errorf("%d events were listed, want %d", total, keys)
	}
	for key, value := range map[string]string{"p/1199": "old", "p/0000": "old"} {
		if n[etcdcall.Watched] == 0 && r[key] != value {
			t.Errorf("listed %s as %q, want %q", key, r[key], value)
		}
	}
	follow(t, l, r, last)
	if want := stored(t, truth(t, c), "p/"); !maps.Equal(r, want) {
		t.Errorf("the copy differs from the store: %d keys, want %d", len(r), len(want))
	}
}

func TestAListWatchHandsOutTheDifferenceAfterCompaction(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := client(t, c)
	for _, key := range []string{"p/kept", "p/changed", "p/deleted"} {
		put(t, cli, key, "before")
	}
	l := listWatch(t, cli, "p/", clientv3.WithPrefix())
	r := replica{}
	follow(t, l, r, 4)

	link := c.Member(0).ClientLink()
	must(t, errors.Join(link.Refuse(), link.Cut()))
	put(t, truth(t, c), "p/changed", "after")
	put(t, truth(t, c), "p/new", "after")
	d, err := truth(t, c).Delete(soon(t), "p/deleted")
	must(t, err)
	_, err = c.Compact(soon(t), 0)
	must(t, err)
	must(t, link.Heal())

	n := follow(t, l, r, d.Header.Revision)
	if n[etcdcall.Resynced] != 3 || n[etcdcall.Watched] != 0 {
		t.Errorf("got events by origin %v, want the three differences as resynced", n)
	}
	if want := stored(t, truth(t, c), "p/"); !maps.Equal(r, want) {
		t.Errorf("got %v, want %v", r, want)
	}
	follow(t, l, r, put(t, truth(t, c), "p/new", "later"))
	if r["p/new"] != "later" {
		t.Error("it does not watch after the new list")
	}
}

func TestAListWatchOutrunsCompactionByLargerPages(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := client(t, c)
	const keys = 1500
	for i := range keys {
		put(t, truth(t, c), fmt.Sprintf("p/%04d", i), "value")
	}
	l := listWatch(t, cli, "p/", clientv3.WithPrefix())
	r := replica{}
	// The store is compacted between any two pages.
	for pages := 1; ; pages++ {
		changes, err := l.Next(soon(t))
		must(t, err)
		r.apply(changes.Events)
		if !changes.More {
			break
		}
		if pages > 20 {
			t.Fatal("the list does not end")
		}
		put(t, truth(t, c), "other", "value")
		_, err = c.Compact(soon(t), 0)
		must(t, err)
	}
	if want := stored(t, truth(t, c), "p/"); !maps.Equal(r, want) {
		t.Errorf("the copy has %d keys, want %d", len(r), len(want))
	}
}

func TestAListWatchNoticesThatTheStoreIsAnother(t *testing.T) {
	t.Parallel()
	old, restored := etcdtest.New(t), etcdtest.New(t)
	for range 5 {
		put(t, truth(t, old), "p/a", "old")
	}
	put(t, truth(t, restored), "p/b", "restored")
	cli := client(t, old)
	l := listWatch(t, cli, "p/", clientv3.WithPrefix())
	r := replica{}
	follow(t, l, r, 6)
	w := watch(t, cli, "p/", clientv3.WithPrefix())

	cli.SetEndpoints(restored.Endpoints()...)
	must(t, old.Member(0).Kill())
	for len(r) != 1 || r["p/b"] != "restored" {
		c, err := l.Next(soon(t))
		must(t, err)
		r.apply(c.Events)
		if c.Origin != etcdcall.Resynced {
			t.Errorf("got %v events", c.Origin)
		}
	}
	_, err := w.Next(soon(t))
	if broken, ok := errors.AsType[*etcdcall.WatchError](err); !ok || broken.Reason != etcdcall.WatchRestored {
		t.Errorf("a plain watch: got %v", err)
	}
}

func TestAListWatchEndsAsAWatchDoes(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := client(t, c)
	l := listWatch(t, cli, "key")
	for changes, err := range l.All() {
		must(t, err)
		if changes.More || len(changes.Events) > 0 {
			t.Errorf("an empty key: got %v", changes)
		}
		l.Stop()
	}
	if !errors.Is(l.Err(), etcdcall.ErrStopped) {
		t.Errorf("stopped: got %v", l.Err())
	}
	why := errors.New("the reason")
	ctx, cancel := context.WithCancelCause(t.Context())
	l, err := etcdcall.NewListWatch(ctx, cli, "key")
	must(t, err)
	cancel(why)
	if _, err := l.Next(soon(t)); !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
		t.Errorf("its context ended: got %v", err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	cancel(why)
	l = listWatch(t, cli, "key")
	if _, err := l.Next(ctx); !errors.Is(err, why) || l.Err() != nil {
		t.Errorf("the context of Next ended: got %v and %v", err, l.Err())
	}
	for _, opt := range []clientv3.OpOption{clientv3.WithRev(3), clientv3.WithLimit(1), clientv3.WithFilterPut()} {
		if _, err := etcdcall.NewListWatch(t.Context(), cli, "key", opt); !isArgumentError(err) {
			t.Errorf("an option that selects: got %v", err)
		}
	}
}

func isArgumentError(err error) bool {
	_, ok := errors.AsType[*reprise.ArgumentError](err)
	return ok
}
