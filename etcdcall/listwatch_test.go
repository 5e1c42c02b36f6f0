package etcdcall

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/internal/watchtest"
)

// lastWatch is the one that was asked for last.
func lastWatch(s *watchtest.Server) (*watchtest.Stream, int64) {
	st := s.Last()
	created := st.Created()
	return st, created[len(created)-1].WatchId
}

// tellLast sends events to the last watch.
func tellLast(s *watchtest.Server, events ...*clientv3.Event) {
	st, id := lastWatch(s)
	st.Tell(id, events...)
}

// breakLast makes the last watch break for a reason.
func breakLast(s *watchtest.Server, reason WatchReason) {
	st, id := lastWatch(s)
	switch reason {
	case WatchCompacted:
		st.Answer(&pb.WatchResponse{WatchId: id, Canceled: true, CompactRevision: 1})
	case WatchRefused:
		st.Answer(&pb.WatchResponse{WatchId: id, Canceled: true, CancelReason: "etcdserver: permission denied"})
	case WatchRestored:
		h := s.Header()
		s.Become(h.ClusterId+1, h.Revision)
		st.Break(io.EOF)
		time.Sleep(time.Second)
	}
	synctest.Wait()
}

func change(kind mvccpb.Event_EventType, key string, rev int64) *clientv3.Event {
	return &clientv3.Event{Type: kind, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: rev}}
}

func putOf(key string, rev int64) *clientv3.Event { return change(clientv3.EventTypePut, key, rev) }

// nextOf returns what the next changes tell.
func nextOf(t *testing.T, l *ListWatch) []string {
	t.Helper()
	c, err := l.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.Revision != l.Revision() || c.More {
		t.Errorf("got %+v, at revision %d", c, l.Revision())
	}
	return told(c)
}

// TestAListWatchTellsTheDifferenceToAllThatItToldBefore, whether listed, watched
// or resynced.
func TestAListWatchTellsTheDifferenceToAllThatItToldBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, kv := watchtest.NewServer(10), &pagedKV{}
		l := listOn(t, s, kv, "p/", clientv3.WithPrefix(), clientv3.WithPrevKV())
		for i, step := range []struct {
			page     *clientv3.GetResponse // if a new list is read
			broken   WatchReason           // why
			events   []*clientv3.Event     // if not
			want     []string
			revision int64
		}{
			{page: page(1, 10, false, listed{"p/a", 5}, listed{"p/b", 6}), want: []string{"put p/a listed", "put p/b listed"}, revision: 10},
			{
				events: []*clientv3.Event{putOf("p/c", 11), change(clientv3.EventTypeDelete, "p/a", 12), putOf("p/b", 13), putOf("p/d", 14)},
				want:   []string{"put p/c watched", "delete p/a watched at 12", "put p/b watched", "put p/d watched"}, revision: 14,
			},
			{
				page: page(1, 20, false, listed{"p/b", 13}, listed{"p/c", 15}, listed{"p/e", 16}), broken: WatchCompacted,
				want: []string{"put p/c resynced", "put p/e resynced", "delete p/d resynced at 20"}, revision: 20,
			},
			{page: page(1, 30, false, listed{"p/b", 13}, listed{"p/e", 16}), broken: WatchCompacted, want: []string{"delete p/c resynced at 30"}, revision: 30},
			{page: page(1, 40, false, listed{"p/b", 13}, listed{"p/e", 16}), broken: WatchCompacted, revision: 40},
			{page: page(1, 41, false, listed{"p/e", 16}), broken: WatchRestored, want: []string{"put p/e resynced", "delete p/b resynced at 41"}, revision: 41},
			{events: []*clientv3.Event{putOf("p/e", 42)}, want: []string{"put p/e watched"}, revision: 42},
		} {
			if step.page != nil {
				kv.answers = append(kv.answers, step.page)
			} else {
				tellLast(s, step.events...)
			}
			if step.broken != 0 {
				breakLast(s, step.broken)
			}
			if got := nextOf(t, l); !slices.Equal(got, step.want) || l.Revision() != step.revision {
				t.Errorf("step %d: got %q up to %d, want %q up to %d", i, got, l.Revision(), step.want, step.revision)
			}
			synctest.Wait()
			if created := s.Last().Created(); step.page != nil && (len(created) != 1 || created[0].StartRevision != step.revision+1 || !created[0].PrevKv || string(created[0].RangeEnd) != "p0") {
				t.Errorf("step %d: watched as %v", i, created)
			}
		}
		breakLast(s, WatchRefused)
		for range 2 {
			_, err := l.Next(t.Context())
			if refused, ok := errors.AsType[*WatchError](err); !ok || refused.Reason != WatchRefused || l.Err() != nil {
				t.Errorf("a watch that was refused: got %v, and it ended with %v", err, l.Err())
			}
		}
	})
}

// TestTheEndOfAListWatchEndsWhatItWaitsFor, and the watch behind it.
func TestTheEndOfAListWatchEndsWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	why := errors.New("the reason")
	begin := page(1, 10, true, listed{"p/a", 5})
	for name, kv := range map[string]func() *streamedKV{
		"the first page": func() *streamedKV { return &streamedKV{pagedKV: pagedKV{answers: []any{nil}}} },
		"a stream that opens": func() *streamedKV {
			return &streamedKV{pagedKV: pagedKV{answers: []any{begin}}, streams: [][]any{{atOpening{wait: time.Hour}}}}
		},
		"the rest of the list": func() *streamedKV {
			return &streamedKV{pagedKV: pagedKV{answers: []any{begin}}, streams: [][]any{{time.Hour}}}
		},
		"changes": func() *streamedKV { return &streamedKV{pagedKV: pagedKV{answers: []any{page(1, 10, false)}}} },
		"nobody, with all told": func() *streamedKV {
			return &streamedKV{pagedKV: pagedKV{answers: []any{begin}}, streams: [][]any{{chunk(), chunk(), chunk(), chunk(), time.Hour}}}
		},
	} {
		for _, stopped := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				s := watchtest.NewServer(10)
				l, err := NewListWatchOf(ctx, kv(), watcherOn(t, s), "p/", clientv3.WithPrefix())
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(time.Second, func() {
					if stopped {
						l.Stop()
					} else {
						cancel(why)
					}
				})
				began := time.Now()
				for err == nil {
					_, err = l.Next(t.Context())
				}
				synctest.Wait()
				asItShould := errors.Is(err, context.Canceled) && errors.Is(err, why)
				if stopped {
					asItShould = err == ErrStopped //nolint:errorlint // == is promised
				}
				if took := time.Since(began); !asItShould || took != time.Second || !errors.Is(l.Err(), err) && l.Err().Error() != err.Error() {
					t.Errorf("waiting for %s: got %v after %v, and it ended with %v", name, err, took, l.Err())
				}
				if slices.ContainsFunc(s.Streams(), func(st *watchtest.Stream) bool { return !st.Ended() }) {
					t.Errorf("waiting for %s: it watches on", name)
				}
			})
		}
	}
}

// TestALoopThatIsLeftLeavesTheRest to the next, and the revision behind.
func TestALoopThatIsLeftLeavesTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := watchtest.NewServer(10)
		kv := &pagedKV{answers: []any{page(1, 10, false, listed{"p/a", 5}, listed{"p/b", 6}, listed{"p/c", 7})}}
		l := listOn(t, s, kv, "p/", clientv3.WithPrefix())
		one := func() string {
			for ev, err := range l.Events() {
				if err != nil {
					t.Fatal(err)
				}
				return string(ev.Kv.Key)
			}
			return ""
		}
		for _, want := range []string{"p/a", "p/b"} {
			if got := one(); got != want || l.Revision() != 0 {
				t.Errorf("got %q, want %q, and the revision of an incomplete list is %d", got, want, l.Revision())
			}
		}
		if got := nextOf(t, l); !slices.Equal(got, []string{"put p/c listed"}) || l.Revision() != 10 {
			t.Errorf("the rest is %q, up to %d", got, l.Revision())
		}
		synctest.Wait()
		tellLast(s, putOf("p/a", 11), putOf("p/b", 12), putOf("p/c", 12), putOf("p/d", 13))
		for _, want := range []struct {
			key string
			rev int64
		}{{"p/a", 11}, {"p/b", 11}, {"p/c", 12}} {
			if got := one(); got != want.key || l.Revision() != want.rev {
				t.Errorf("got %q up to %d, want %q up to %d", got, l.Revision(), want.key, want.rev)
			}
		}
		if got := nextOf(t, l); !slices.Equal(got, []string{"put p/d watched"}) || l.Revision() != 13 {
			t.Errorf("the rest is %q, up to %d", got, l.Revision())
		}
		tellLast(s, putOf("p/a", 14))
		if got := one(); got != "p/a" || l.Revision() != 14 {
			t.Errorf("with nothing left, got %q up to %d", got, l.Revision())
		}
		if got := nextOf(t, l); len(got) > 0 || l.Revision() != 14 {
			t.Errorf("the rest of nothing is %q, up to %d", got, l.Revision())
		}
		kv.answers = append(kv.answers, page(1, 20, false, listed{"p/a", 15}, listed{"p/e", 16}))
		breakLast(s, WatchCompacted)
		if got := one(); got != "p/a" || l.Revision() != 14 {
			t.Errorf("of another list, got %q up to %d, want p/a up to 14", got, l.Revision())
		}
		l.Stop()
		if c, err := l.Next(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("after it was stopped it told %v, %v", c, err)
		}
		if got := one(); got != "" {
			t.Errorf("after it was stopped a loop got %q", got)
		}
	})
}

// TestAListIsReadByOneAtATime relies on the race detector: the KV has no lock.
func TestAListIsReadByOneAtATime(t *testing.T) {
	t.Parallel()
	kv := &pagedKV{answers: []any{
		page(1, 10, true, listed{"p/a", 5}), page(1, 10, true, listed{"p/b", 6}), page(1, 10, false, listed{"p/c", 7}),
	}}
	l := listOn(t, watchtest.NewServer(10), kv, "p/", clientv3.WithPrefix())
	l.noStreams.Store(true)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if _, err := l.Next(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if l.Revision() != 10 {
		t.Errorf("got to revision %d", l.Revision())
	}
}

func TestAListWatchReadsAndWatchesTheSame(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		key                string
		opts               []clientv3.OpOption
		asked, from, until string
		prev               bool
	}{
		{"key", nil, `from "key" to "" at 0`, "key", "", false},
		{"p/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithPrevKV()}, `from "p/" to "p0" at 0`, "p/", "p0", true},
		{"", []clientv3.OpOption{clientv3.WithPrefix()}, `from "\x00" to "\x00" at 0`, "\x00", "\x00", false},
		{"k", []clientv3.OpOption{clientv3.WithFromKey()}, `from "k" to "\x00" at 0`, "k", "\x00", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, kv := watchtest.NewServer(10), &pagedKV{answers: []any{page(1, 10, false)}}
			l := listOn(t, s, kv, test.key, test.opts...)
			if got := nextOf(t, l); len(got) > 0 || !slices.Equal(kv.asked, []string{test.asked}) {
				t.Errorf("got %q, and asked %s, want %s", got, kv.asked, test.asked)
			}
			synctest.Wait()
			if r := s.Last().Created()[0]; string(r.Key) != test.from || string(r.RangeEnd) != test.until || r.StartRevision != 11 || r.PrevKv != test.prev {
				t.Errorf("watched as %v, want [%q,%q) from 11", r, test.from, test.until)
			}
		})
	}
}

func TestAListWatchRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]clientv3.OpOption{
		"a revision": clientv3.WithRev(3), "a limit": clientv3.WithLimit(1), "an order": clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend),
		"no puts": clientv3.WithFilterPut(), "no deletions": clientv3.WithFilterDelete(), "keys alone": clientv3.WithKeysOnly(),
		"a count": clientv3.WithCountOnly(), "a serializable read": clientv3.WithSerializable(), "old keys": clientv3.WithMaxModRev(5), "a lease": clientv3.WithLease(1),
	} {
		_, err := NewListWatchOf(t.Context(), &pagedKV{}, &watcher{}, "p/", opt)
		if _, ok := errors.AsType[*reprise.ArgumentError](err); !ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
	l, err := NewListWatchOf(t.Context(), &pagedKV{answers: []any{page(1, 10, true), page(1, 10, true)}}, nil, "p/")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	for range 2 {
		if c, err := l.Next(t.Context()); !isConfigurationError(err) {
			t.Errorf("on another watcher: got %v, %v", c, err)
		}
	}
}

func TestEveryOriginHasAWord(t *testing.T) {
	t.Parallel()
	for origin, want := range map[Origin]string{Watched: "watched", Listed: "listed", Resynced: "resynced", 7: "Origin(7)"} {
		if origin.String() != want {
			t.Errorf("got %q, want %q", origin, want)
		}
	}
}
