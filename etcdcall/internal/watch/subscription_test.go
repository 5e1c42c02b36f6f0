package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// quietStream is a stream on which nothing is sent, with one watch that the
// server has accepted at revision bound.
func quietStream(limit int, next, bound int64) (*stream, *Subscription) {
	m := newMux(Config{Buffer: limit})
	s := newStream(context.Background(), m, streamKey{})
	m.streams[s.key] = s
	s.open()
	sub := newSubscription(context.Background(), clientv3.OpWatch("key", clientv3.WithRev(next)), limit)
	s.add(sub)
	_ = s.handle(&pb.WatchResponse{Created: true, WatchId: s.lastID, Header: &pb.ResponseHeader{Revision: bound}})
	return s, sub
}

func putAt(rev int64, size int) *clientv3.Event {
	return &clientv3.Event{Kv: &mvccpb.KeyValue{Key: []byte("key"), Value: make([]byte, size), ModRevision: rev}}
}

// events makes s receive events for the watch with the number id.
func (s *stream) events(id int64, fragment bool, events ...*clientv3.Event) {
	last := events[len(events)-1].Kv.ModRevision
	_ = s.handle(&pb.WatchResponse{WatchId: id, Events: events, Fragment: fragment, Header: &pb.ResponseHeader{Revision: last}})
}

// sent returns what the requests ask for that wait to be sent, and forgets them.
func (s *stream) sent() (asked []string) {
	for _, req := range s.takeOut() {
		switch r := req.RequestUnion.(type) {
		case *pb.WatchRequest_CreateRequest:
			asked = append(asked, fmt.Sprint("create at ", r.CreateRequest.StartRevision))
		case *pb.WatchRequest_CancelRequest:
			asked = append(asked, fmt.Sprint("cancel ", r.CancelRequest.WatchId))
		case *pb.WatchRequest_ProgressRequest:
			asked = append(asked, "progress")
		}
	}
	return asked
}

func TestAFullQueueTakesTheWatchOffTheServerUntilHalfIsRead(t *testing.T) {
	t.Parallel()
	const size = 1000
	limit := 4 * (size + eventOverhead + len("key"))
	s, sub := quietStream(limit, 2, 1)
	if got := s.sent(); !slices.Equal(got, []string{"create at 2"}) {
		t.Fatalf("asked for %v", got)
	}
	for rev := int64(2); rev <= 20; rev++ {
		s.events(1, false, putAt(rev, size)) // what is under way goes on coming
	}
	if got := s.sent(); !slices.Equal(got, []string{"cancel 1"}) {
		t.Errorf("when the queue is full: asked for %v", got)
	}
	if sub.size > limit+limit/4 {
		t.Errorf("the queue holds %d bytes, with a limit of %d", sub.size, limit)
	}
	for rev := int64(2); rev <= 6; rev++ {
		d, err := sub.Receive(t.Context())
		if err != nil || d.UpTo != rev {
			t.Fatalf("got %v, %v, want revision %d", d, err, rev)
		}
		if half := rev == 4; len(s.sent()) > 0 != half {
			t.Errorf("after revision %d was read: half is read %v", rev, half)
		}
	}
	_ = s.handle(&pb.WatchResponse{Created: true, WatchId: 2, Header: &pb.ResponseHeader{Revision: 20}})
	s.events(2, false, putAt(7, size))
	if d, err := sub.Receive(t.Context()); err != nil || d.UpTo != 7 {
		t.Errorf("taken up again: got %v, %v, want revision 7", d, err)
	}
}

func TestFragmentsAreHandedOutByWholeRevisions(t *testing.T) {
	t.Parallel()
	s, sub := quietStream(1<<20, 2, 1)
	s.events(1, true, putAt(2, 1), putAt(3, 1), putAt(4, 1))
	s.events(1, true, putAt(4, 1), putAt(4, 1))
	s.events(1, false, putAt(4, 1), putAt(5, 1))
	for _, want := range [][]int64{{2, 3}, {4, 4, 4, 4, 5}} {
		d, err := sub.Receive(t.Context())
		var got []int64
		for _, ev := range d.Events {
			got = append(got, ev.Kv.ModRevision)
		}
		if err != nil || !slices.Equal(got, want) || d.UpTo != want[len(want)-1] || d.Header.Revision < d.UpTo {
			t.Errorf("got %v up to %d, %v; want %v", got, d.UpTo, err, want)
		}
	}
}

func TestEventsThatWereHandedOutAreDropped(t *testing.T) {
	t.Parallel()
	s, sub := quietStream(1<<20, 5, 4)
	s.events(1, false, putAt(3, 1), putAt(4, 1), putAt(5, 1))
	s.events(1, false, putAt(5, 1))
	s.events(1, false, putAt(6, 1))
	for want := int64(5); want <= 6; want++ {
		if d, err := sub.Receive(t.Context()); err != nil || len(d.Events) != 1 || d.UpTo != want {
			t.Errorf("got %v, %v, want revision %d alone", d, err, want)
		}
	}
}

// TestProgressThatMayBeOlderThanTheWatchIsNotBelieved: the server queues
// answers to requests for progress apart from those to creations, so that one
// may be told after a watch was accepted that it knows nothing of.
func TestProgressThatMayBeOlderThanTheWatchIsNotBelieved(t *testing.T) {
	t.Parallel()
	progress := func(rev int64) *pb.WatchResponse {
		return &pb.WatchResponse{WatchId: clientv3.InvalidWatchID, Header: &pb.ResponseHeader{Revision: rev}}
	}
	s, first := quietStream(1<<20, 5, 10)
	s.requestProgress() // before the second watch is asked for
	second := newSubscription(context.Background(), clientv3.OpWatch("key", clientv3.WithRev(5)), 1<<20)
	s.add(second)
	_ = s.handle(&pb.WatchResponse{Created: true, WatchId: 2, Header: &pb.ResponseHeader{Revision: 10}})
	_ = s.handle(progress(10))
	if first.next != 11 || second.next != 5 {
		t.Errorf("they resume at %d and %d, want 11 and 5: the second has received nothing", first.next, second.next)
	}
	_ = s.handle(progress(12))
	if first.next != 13 || second.next != 13 {
		t.Errorf("they resume at %d and %d, want 13: what is newer than a watch knows of it", first.next, second.next)
	}
}

func TestAServerThatNumbersWatchesItselfIsAskedOneByOne(t *testing.T) {
	t.Parallel()
	m := newMux(Config{Buffer: 1 << 20})
	s := newStream(context.Background(), m, streamKey{})
	a := newSubscription(context.Background(), clientv3.OpWatch("a", clientv3.WithRev(2)), 1)
	b := newSubscription(context.Background(), clientv3.OpWatch("b", clientv3.WithRev(2)), 1)
	s.add(a)
	s.add(b)
	s.open()
	created := func(id int64) error {
		return s.handle(&pb.WatchResponse{Created: true, WatchId: id, Header: &pb.ResponseHeader{Revision: 1}})
	}
	if n := len(s.sent()); n != 2 {
		t.Fatalf("%d creations at once, want 2", n)
	}
	if err := created(0); err == nil {
		t.Fatal("a number that was not asked for was taken")
	}
	s.close()
	s.open()
	if n := len(s.sent()); n != 1 {
		t.Fatalf("%d creations, want one at a time", n)
	}
	if err := created(0); err != nil || len(s.sent()) != 1 {
		t.Fatalf("got %v, and the other creation is not asked for", err)
	}
	if err := created(1); err != nil || a.id == b.id || len(s.byID) != 2 {
		t.Errorf("got %v, numbers %d and %d", err, a.id, b.id)
	}
}

// TestProgressOfANewStreamIsBelieved: nothing that was asked on the one before is
// answered on it.
func TestProgressOfANewStreamIsBelieved(t *testing.T) {
	t.Parallel()
	s, sub := quietStream(1<<20, 5, 10)
	s.requestProgress()
	s.close()
	s.open()
	s.accept(t, &pb.ResponseHeader{Revision: 10})
	s.mu.Lock()
	s.askProgress()
	s.mu.Unlock()
	_ = s.handle(progressAt(10))
	if sub.next != 11 {
		t.Errorf("it resumes at %d, want 11", sub.next)
	}
}

func TestAWatchThatWasStoppedHandsOutNothingThatComesLater(t *testing.T) {
	t.Parallel()
	s, sub := quietStream(1<<20, 5, 4)
	s.events(1, false, putAt(5, 1))
	sub.finish(errStopped, false) // and is not yet off the stream
	s.events(1, false, putAt(6, 1))
	if d, err := sub.Receive(t.Context()); !errors.Is(err, errStopped) {
		t.Errorf("got %v, %v", d, err)
	}
}

func TestProgressThatNobodyReadsIsKeptOnce(t *testing.T) {
	t.Parallel()
	header := &pb.ResponseHeader{}
	sub := newSubscription(context.Background(), clientv3.OpWatch("key"), 1<<20)
	sub.push(Delivery{Header: header, Created: true, UpTo: 4})
	for rev := int64(5); rev < 100; rev++ {
		sub.push(Delivery{Header: header, UpTo: rev})
	}
	sub.push(Delivery{Header: header, Events: []*clientv3.Event{putAt(100, 1)}, UpTo: 100})
	for rev := int64(101); rev < 200; rev++ {
		sub.push(Delivery{Header: header, UpTo: rev})
	}
	var got []string
	for _, d := range sub.pending() {
		got = append(got, fmt.Sprint(d.UpTo, " ", d.Created, " ", len(d.Events)))
	}
	if want := []string{"4 true 0", "99 false 0", "100 false 1", "199 false 0"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAQueueCountsPreviousValuesToo(t *testing.T) {
	t.Parallel()
	ev := putAt(5, 1000)
	plain := eventSize(ev)
	ev.PrevKv = &mvccpb.KeyValue{Key: []byte("key"), Value: make([]byte, 2000)}
	if got, want := eventSize(ev), plain+2003; plain != 1003+eventOverhead || got != want {
		t.Errorf("without a previous value %d, with one %d, want %d", plain, got, want)
	}
}
