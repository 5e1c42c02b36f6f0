package concurrency

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// TestMembersAreThoseOfTheStore follows a double barrier by hand.
func TestMembersAreThoseOfTheStore(t *testing.T) {
	t.Parallel()
	looks := 0
	m := &members{pfx: "b/", done: func(*members) bool { looks++; return false }, stop: func() {}}
	kv := func(key string, create, mod int64) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(key), CreateRevision: create, ModRevision: mod}
	}
	snapshot := func(kvs ...*mvccpb.KeyValue) func() {
		return func() { m.restarted(&v3.GetResponse{Header: &pb.ResponseHeader{}, Kvs: kvs}) }
	}
	events := func(all ...*v3.Event) func() { return func() { m.moved(&v3.WatchResponse{Events: all}) } }
	put := func(kv *mvccpb.KeyValue) *v3.Event { return &v3.Event{Type: v3.EventTypePut, Kv: kv} }
	del := func(key string, rev int64) *v3.Event {
		return &v3.Event{Type: v3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: rev}}
	}
	for _, step := range []struct {
		what                    string
		happens                 func()
		members, older5, looked int
		begun                   int64
	}{
		{"a snapshot", snapshot(kv("b/members/a", 3, 3), kv("b/members/b", 5, 5), kv("b/begun", 2, 4)), 2, 1, 1, 4},
		{"one comes", events(put(kv("b/members/c", 6, 6))), 3, 1, 1, 4},
		{"it begins anew, and two leave", events(put(kv("b/begun", 2, 7)), del("b/members/a", 8), del("b/members/c", 9)), 1, 0, 3, 7},
		{"what was missed", snapshot(kv("b/members/d", 4, 4)), 1, 1, 1, 0},
	} {
		looks = 0
		step.happens()
		if len(m.keys) != step.members || m.before(5) != step.older5 || m.begun != step.begun || looks != step.looked {
			t.Errorf("%s: %d members, %d of them before revision 5, begun at %d, %d looks; want %+v",
				step.what, len(m.keys), m.before(5), m.begun, looks, step)
		}
	}
}

func TestWhoIsDoneDoesNotLookAgain(t *testing.T) {
	t.Parallel()
	looks, stops := 0, 0
	m := &members{pfx: "b/", done: func(*members) bool { looks++; return true }, stop: func() { stops++ }}
	m.restarted(&v3.GetResponse{Header: &pb.ResponseHeader{}})
	m.moved(&v3.WatchResponse{Events: []*v3.Event{{Type: v3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte("b/members/a")}}}})
	if looks != 1 || stops != 1 || !m.over {
		t.Errorf("%d looks, %d stops, over: %v", looks, stops, m.over)
	}
}
