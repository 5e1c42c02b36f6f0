package etcdcall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// pagedKV answers the reads of a list one by one. It has no streams.
type pagedKV struct {
	clientv3.KV
	answers []any // *clientv3.GetResponse or error
	asked   []string
	limits  []int64
}

// Get implements clientv3.KV.
func (kv *pagedKV) Get(_ context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	op := clientv3.OpGet(key, opts...)
	kv.asked = append(kv.asked, fmt.Sprintf("from %q to %q at %d", key, op.RangeBytes(), op.Rev()))
	kv.limits = append(kv.limits, op.Limit())
	if len(kv.answers) == 0 {
		return nil, errors.New("not expected")
	}
	answer := kv.answers[0]
	kv.answers = kv.answers[1:]
	if err, ok := answer.(error); ok {
		return nil, err
	}
	return answer.(*clientv3.GetResponse), nil
}

// page is a part of a list, of keys with their revisions.
func page(cluster uint64, rev int64, more bool, keys ...listed) *clientv3.GetResponse {
	r := &clientv3.GetResponse{Header: of(cluster, rev), More: more}
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
			m, end := (&watchServer{rev: 10}).mux()
			defer end()
			kv := &pagedKV{answers: append([]any{begin}, test.then...)}
			l, err := NewListWatchOf(t.Context(), kv, newWatcher(m), "p/", clientv3.WithPrefix())
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
			if l.least != 0 {
				t.Errorf("%s: the bound on pages outlives the list", name)
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
