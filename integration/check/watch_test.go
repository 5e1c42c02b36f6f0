package check_test

import (
	"errors"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/integration/check"
)

func event(rev int64, key, value string) *clientv3.Event {
	return &clientv3.Event{Kv: &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: rev}}
}

// history is what the tests below watch: revision 5 has two changes.
func history() []*clientv3.Event {
	return []*clientv3.Event{
		event(2, "a", "1"), event(3, "b", "1"), event(5, "a", "2"), event(5, "c", "1"), event(6, "b", "2"),
	}
}

func TestCheckPassesWhatIsRight(t *testing.T) {
	t.Parallel()
	h := history()
	w := &check.Watch{From: 3, PrevKV: true, Match: func(e *clientv3.Event) bool { return string(e.Kv.Key) != "c" }}
	w.Record(h[1:2], 0)
	w.Record(nil, 4)
	second := event(5, "a", "2")
	second.PrevKv = &mvccpb.KeyValue{Value: []byte("1")}
	w.Record([]*clientv3.Event{second}, 5)
	w.Record([]*clientv3.Event{event(6, "b", "2")}, 6)
	if err := w.Check(&check.Log{Events: h}, 6); err != nil {
		t.Error(err)
	}
	if w.Events() != 3 || w.Last() != 6 {
		t.Errorf("got %d events, the last at %d", w.Events(), w.Last())
	}
}

func TestCheckCatchesEachBrokenGuarantee(t *testing.T) {
	t.Parallel()
	type portion struct {
		events   []*clientv3.Event
		complete int64
	}
	h := history()
	wrong := event(6, "b", "2")
	wrong.PrevKv = &mvccpb.KeyValue{Value: []byte("of another")}
	for name, test := range map[string]struct {
		portions []portion
		want     check.Guarantee
	}{
		"an older one after a newer one":      {[]portion{{h[1:2], 0}, {h[0:1], 0}, {h[2:], 0}}, check.Ordered},
		"one given again":                     {[]portion{{h[0:2], 0}, {h[1:], 0}}, check.Unique},
		"one left out in the middle":          {[]portion{{h[0:1], 0}, {h[2:], 0}}, check.Reliable},
		"one left out at the end":             {[]portion{{h[0:4], 0}}, check.Reliable},
		"one that never was":                  {[]portion{{h, 0}, {[]*clientv3.Event{event(7, "a", "3")}, 0}}, check.Reliable},
		"one with another value":              {[]portion{{h[0:4], 0}, {[]*clientv3.Event{event(6, "b", "3")}, 0}}, check.Reliable},
		"a revision in two portions":          {[]portion{{h[0:3], 0}, {h[3:], 0}}, check.Atomic},
		"a beginning that is late":            {[]portion{{h[1:], 0}}, check.Resumable},
		"an event after its bookmark":         {[]portion{{h[0:1], 0}, {nil, 3}, {h[1:], 0}}, check.Bookmarkable},
		"a bookmark past what was left out":   {[]portion{{h[0:1], 0}, {h[2:], 6}}, check.Bookmarkable},
		"a previous value that was not there": {[]portion{{append(slices.Clone(h[0:4]), wrong), 0}}, check.Previous},
	} {
		w := &check.Watch{From: 2, PrevKV: true}
		for _, p := range test.portions {
			w.Record(p.events, p.complete)
		}
		if err := w.Check(&check.Log{Events: h}, 6); !broke(err, test.want) {
			t.Errorf("%s: got %v, want a violation of %q", name, err, test.want)
		}
	}
}

// broke reports whether err tells of a violation of g.
func broke(err error, g check.Guarantee) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	return ok && slices.ContainsFunc(joined.Unwrap(), func(err error) bool {
		v, ok := errors.AsType[*check.Violation](err)
		return ok && v.Guarantee == g
	})
}
