package concurrency

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

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

// TestAMemberLeavesNoLaterThanItsSessionEnds has another member stay.
func TestAMemberLeavesNoLaterThanItsSessionEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionOn(t.Context(), nil, sessionOptions{})
		stays := &script{watch: stand, reads: []*v3.GetResponse{at(4, 2)}}
		s.client.KV, s.client.Watcher = deleting{stays}, stays
		b := NewDoubleBarrier(s, "b", 2)
		b.claim, b.began = s.claim(s.term, b.pfx, memberKind, memberKind), 3
		b.claim.rev = 1
		time.AfterFunc(time.Minute, s.Orphan)
		began := time.Now()
		err := b.Leave(t.Context())
		if ended, ok := errors.AsType[*SessionError](err); !ok || ended.Reason != SessionOrphaned || time.Since(began) != time.Minute {
			t.Errorf("Leave: %v after %v", err, time.Since(began))
		}
	})
}

// deleting is a store whose transactions find what they delete.
type deleting struct{ v3.KV }

func (deleting) Txn(context.Context) v3.Txn { return deletion{} }

type deletion struct{ v3.Txn }

func (d deletion) If(...v3.Cmp) v3.Txn  { return d }
func (d deletion) Then(...v3.Op) v3.Txn { return d }

func (deletion) Commit() (*v3.TxnResponse, error) {
	found := &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{Deleted: 1}}
	return &v3.TxnResponse{Header: &pb.ResponseHeader{Revision: 4}, Succeeded: true, Responses: []*pb.ResponseOp{{Response: found}}}, nil
}
