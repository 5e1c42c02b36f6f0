package etcdcall

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall/internal/watchtest"
)

// pagedKV answers the reads of a list one by one. It has no streams.
type pagedKV struct {
	clientv3.KV
	answers []any // *clientv3.GetResponse, error, or nil for none before the context ends
	asked   []string
	limits  []int64
	hasty   bool // a read had no deadline, so that it would be given up after a while
}

// Get implements clientv3.KV.
func (kv *pagedKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	_, patient := ctx.Deadline()
	kv.hasty = kv.hasty || !patient
	op := clientv3.OpGet(key, opts...)
	kv.asked = append(kv.asked, fmt.Sprintf("from %q to %q at %d", key, op.RangeBytes(), op.Rev()))
	kv.limits = append(kv.limits, op.Limit())
	if len(kv.answers) == 0 {
		return nil, errors.New("not expected")
	}
	answer := kv.answers[0]
	kv.answers = kv.answers[1:]
	switch answer := answer.(type) {
	case nil:
		<-ctx.Done()
		return nil, ctx.Err()
	case error:
		return nil, answer
	default:
		return answer.(*clientv3.GetResponse), nil
	}
}

// page is a part of a list, of keys with their revisions.
func page(cluster uint64, rev int64, more bool, keys ...listed) *clientv3.GetResponse {
	r := &clientv3.GetResponse{Header: &pb.ResponseHeader{ClusterId: cluster, Revision: rev}, More: more}
	for _, k := range keys {
		r.Kvs = append(r.Kvs, &mvccpb.KeyValue{Key: []byte(k.key), ModRevision: k.rev})
	}
	return r
}

type listed struct {
	key string
	rev int64
}

// TestAListThatIsOvertakenBeginsAnew: what was handed out of it is put right. Of
// the same store that need not be told again, of another it must, since the same
// revision may be of another value.
func TestAListThatIsOvertakenBeginsAnew(t *testing.T) {
	t.Parallel()
	a, b, c := listed{"p/a", 5}, listed{"p/b", 6}, listed{"p/c", 7}
	begin := page(1, 10, true, a, b)
	first := []string{"put p/a listed", "put p/b listed"}
	for name, test := range map[string]struct {
		then  []any
		want  []string
		limit []int64 // of each page
		rev   int64
	}{
		"nothing happens": {
			then: []any{page(1, 12, false, c)}, rev: 10, limit: []int64{500, 500},
			want: []string{"put p/c listed"},
		},
		"by compaction": {
			then: []any{rpctypes.ErrCompacted, page(1, 12, true, a), page(1, 13, false, c)}, rev: 12, limit: []int64{500, 500, 2000, 2000},
			want: []string{"put p/c resynced", "delete p/b resynced at 12"},
		},
		"by compaction, with a value changed and none left": {
			then: []any{rpctypes.ErrCompacted, page(1, 12, true, listed{"p/a", 11}), page(1, 13, false)}, rev: 12, limit: []int64{500, 500, 2000, 2000},
			want: []string{"put p/a resynced", "delete p/b resynced at 12"},
		},
		"by compaction of a store that went back": {
			then: []any{rpctypes.ErrCompacted, page(1, 12, false, listed{"p/a", 4}, b)}, rev: 12, limit: []int64{500, 500, 2000},
			want: []string{"put p/a resynced"},
		},
		"by compaction twice": {
			then: []any{rpctypes.ErrCompacted, page(1, 12, true, a), rpctypes.ErrCompacted, page(1, 13, false, a, c)}, rev: 13, limit: []int64{500, 500, 2000, 2000, 8000},
			want: []string{"put p/c resynced", "delete p/b resynced at 13"},
		},
		"by a store that went back": {
			then: []any{rpctypes.ErrFutureRev, page(1, 8, false, a, c)}, rev: 8, limit: []int64{500, 500, 2000},
			want: []string{"put p/a resynced", "put p/c resynced", "delete p/b resynced at 8"},
		},
		"by a store that went back, then by compaction": {
			then: []any{rpctypes.ErrFutureRev, page(1, 8, true, a), rpctypes.ErrCompacted, page(1, 9, false, a, c)}, rev: 9, limit: []int64{500, 500, 2000, 2000, 8000},
			want: []string{"put p/a resynced", "put p/a resynced", "put p/c resynced", "delete p/b resynced at 9"},
		},
		"by another store": {
			then: []any{page(2, 10, false, c), page(2, 10, false, a)}, rev: 10, limit: []int64{500, 500, 500},
			want: []string{"put p/a resynced", "delete p/b resynced at 10"},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := watchtest.NewServer(10)
			kv := &pagedKV{answers: append([]any{begin}, test.then...)}
			l, err := NewListWatchOf(t.Context(), kv, watcherOn(t, s), "p/", clientv3.WithPrefix())
			if err != nil {
				t.Fatal(err)
			}
			defer l.Stop()
			l.noStreams.Store(true)
			var got []string
			for l.Revision() == 0 {
				changes, err := l.Next(t.Context())
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if changes.More != (l.Revision() == 0) || changes.More && len(changes.Events) == 0 || changes.Revision != l.Revision() {
					t.Errorf("%s: got %+v, at revision %d", name, changes, l.Revision())
				}
				got = append(got, told(changes)...)
			}
			if want := append(slices.Clone(first), test.want...); !slices.Equal(got, want) || l.Revision() != test.rev {
				t.Errorf("%s: got %q up to %d, want %q up to %d", name, got, l.Revision(), want, test.rev)
			}
			if len(kv.answers) > 0 || !slices.Equal(kv.limits, test.limit) {
				t.Errorf("%s: asked for pages of %v, want %v", name, kv.limits, test.limit)
			}
			if second := kv.asked[1]; second != `from "p/b\x00" to "p0" at 10` {
				t.Errorf("%s: the second part is read %s", name, second)
			}
			if l.least != 0 || kv.hasty {
				t.Errorf("%s: the bound on pages outlives the list, or a read is given up after a while: %v", name, kv.hasty)
			}
			synctest.Wait()
			if n := watching(s); n != 1 {
				t.Errorf("%s: %d watches go on", name, n)
			}
		})
	}
}

// told says what changes tell.
func told(c *Changes) (all []string) {
	for _, ev := range c.Events {
		what := fmt.Sprintf("put %s %v", ev.Kv.Key, c.Origin)
		if ev.Type == clientv3.EventTypeDelete {
			what = fmt.Sprintf("delete %s %v at %d", ev.Kv.Key, c.Origin, ev.Kv.ModRevision)
		}
		all = append(all, what)
	}
	return all
}

func TestThePageFollowsTheSizeOfWhatWasRead(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		page, least int64
		read        int // keys
		size        int // of each, with its value
		want        int64
	}{
		{500, 0, 500, 1048, 1000},
		{500, 0, 499, 100_000, 500}, // the last page says nothing
		{500, 0, 500, 100, 2000},
		{500, 0, 500, 100_000, 125},
		{20, 0, 20, 1_000_000, 10},
		{12_000, 0, 12_000, 20, 20_000},
		{2000, 2000, 2000, 100_000, 2000},
	} {
		l := &ListWatch{page: test.page, least: test.least, list: &listing{}, known: map[string]knownKey{}}
		var kvs []*mvccpb.KeyValue
		for i := range test.read {
			key := fmt.Appendf(nil, "%08d", i)
			kvs = append(kvs, &mvccpb.KeyValue{Key: key, Value: make([]byte, test.size-len(key)), ModRevision: 1})
		}
		if events := l.fromPage(kvs); len(events) != test.read || l.page != test.want {
			t.Errorf("%+v: %d events, and then a page of %d", test, len(events), l.page)
		}
	}
}

func TestAListThatIsOvertakenForeverHasPagesOfABoundedSize(t *testing.T) {
	t.Parallel()
	l := &ListWatch{page: firstPage, list: &listing{}, known: map[string]knownKey{}}
	for range 100 {
		before := l.page
		if l.overtaken(rpctypes.ErrCompacted); l.page < before || l.page > math.MaxInt32 {
			t.Fatalf("after a page of %d comes one of %d", before, l.page)
		}
	}
	if l.page != math.MaxInt32 {
		t.Errorf("the pages end with %d keys", l.page)
	}
}
