package watch

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall/internal/watchtest"
)

// revisions are those of the events of d.
func (d Delivery) revisions() (revs []int64) {
	for _, ev := range d.Events {
		revs = append(revs, ev.Kv.ModRevision)
	}
	return revs
}

// pending takes out what waits for the reader of q.
func (q *Subscription) pending() (all []Delivery) {
	for {
		d, ok, _ := q.pop()
		if !ok {
			return all
		}
		all = append(all, d)
	}
}

func progressAt(rev int64) *pb.WatchResponse {
	return &pb.WatchResponse{WatchId: clientv3.InvalidWatchID, Header: &pb.ResponseHeader{Revision: rev}}
}

// TestAFragmentOfWhichTheRestNeverCameIsForgotten: the revision comes again, whole,
// when the watch is taken up again.
func TestAFragmentOfWhichTheRestNeverCameIsForgotten(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(s *stream, sub *Subscription){
		"the stream broke": func(s *stream, _ *Subscription) {
			s.close()
			s.open()
		},
		"the server dropped the watch": func(s *stream, sub *Subscription) {
			if err := s.handle(&pb.WatchResponse{Canceled: true, WatchId: sub.id}); !resumable(err) {
				t.Errorf("a watch that was dropped without a reason: got %v", err)
			}
			s.open() // without a close that would forget it too
		},
		"the queue was full": func(s *stream, sub *Subscription) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.drop(sub)
			s.takeUp(sub)
		},
	} {
		s, sub := quietStream(1<<20, 2, 1)
		s.events(1, true, putAt(2, 1), putAt(3, 1))
		breaks(s, sub)
		if got := s.sent(); got[len(got)-1] != "create at 3" {
			t.Errorf("%s: asked for %v", name, got)
		}
		s.accept(t, &pb.ResponseHeader{Revision: 9})
		s.events(s.lastID, false, putAt(3, 1), putAt(3, 1), putAt(4, 1))
		var got []int64
		for _, d := range sub.pending() {
			got = append(got, d.revisions()...)
		}
		if want := []int64{2, 3, 3, 4}; !slices.Equal(got, want) {
			t.Errorf("%s: got the revisions %v, want %v", name, got, want)
		}
	}
}

// TestAnEmptyLastFragmentEndsItsRevision: it tells no progress beyond that.
func TestAnEmptyLastFragmentEndsItsRevision(t *testing.T) {
	t.Parallel()
	s, sub := quietStream(1<<20, 2, 1)
	s.events(1, true, putAt(2, 1), putAt(3, 1))
	_ = s.handle(&pb.WatchResponse{WatchId: 1, Header: &pb.ResponseHeader{Revision: 7}})
	all := sub.pending()
	if len(all) != 2 || !slices.Equal(all[1].revisions(), []int64{3}) || all[1].UpTo != 3 || sub.next != 4 {
		t.Errorf("got %v, and resumes at %d", all, sub.next)
	}
}

func TestProgressIsToldToWhoAskedForIt(t *testing.T) {
	t.Parallel()
	for _, wanted := range []bool{false, true} {
		s, sub := quietStream(1<<20, 5, 4)
		sub.progress = wanted
		told := func(what string, ask func(), want ...int64) {
			t.Helper()
			ask()
			var got []int64
			for _, d := range sub.pending() {
				got = append(got, d.UpTo)
			}
			if !slices.Equal(got, want) {
				t.Errorf("progress wanted %v, %s: told %v, want %v", wanted, what, got, want)
			}
		}
		ifWanted := func(rev int64) []int64 {
			if wanted {
				return []int64{rev}
			}
			return nil
		}
		told("of a later revision", func() { _ = s.handle(progressAt(6)) }, ifWanted(6)...)
		told("of the same again", func() { _ = s.handle(progressAt(6)) })
		told("of an earlier one", func() { _ = s.handle(progressAt(5)) })
		if sub.next != 7 || sub.complete() != 6 {
			t.Errorf("it resumes at %d and is complete up to %d, want 7 and 6", sub.next, sub.complete())
		}
		told("by the server of itself", func() {
			_ = s.handle(&pb.WatchResponse{WatchId: 1, Header: &pb.ResponseHeader{Revision: 6}})
		}, ifWanted(6)...)
		told("when the reader asked", func() { s.requestProgress(); _ = s.handle(progressAt(6)) }, 6)
		told("once more", func() { _ = s.handle(progressAt(6)) })
		// An answer that was under way may be older than the question.
		s.mu.Lock()
		s.askProgress()
		s.mu.Unlock()
		told("before the reader asked", func() { s.requestProgress(); _ = s.handle(progressAt(6)) }, 6)
		told("when the reader asked, later", func() { _ = s.handle(progressAt(8)) }, 8)
		told("once more, later", func() { _ = s.handle(progressAt(8)) })
	}
}

// TestARefusedTokenIsTakenForAStaleOneForAWhile: each stream has a new one.
func TestARefusedTokenIsTakenForAStaleOneForAWhile(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{"etcdserver: invalid auth token", "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"} {
		synctest.Test(t, func(t *testing.T) {
			s, sub := quietStream(1<<20, 5, 4)
			s.mux.cfg.Patience = 10 * time.Second
			refuse := func(want error) {
				t.Helper()
				s.close()
				s.open()
				err := s.handle(&pb.WatchResponse{Created: true, Canceled: true, WatchId: clientv3.InvalidWatchID, CancelReason: reason})
				if !errors.Is(err, want) || want == nil && err != nil {
					t.Errorf("got %v, want %v", err, want)
				}
				if want != nil && s.takeWorked() {
					t.Error("the pauses begin anew")
				}
			}
			refuse(errTokenStale)
			time.Sleep(9 * time.Second)
			refuse(errTokenStale)
			s.close()
			s.open()
			s.accept(t, &pb.ResponseHeader{Revision: 4}) // and the time begins anew
			time.Sleep(9 * time.Second)
			refuse(errTokenStale)
			time.Sleep(9 * time.Second)
			refuse(errTokenStale)
			time.Sleep(time.Second)
			refuse(nil)
			broken, ok := errors.AsType[*brokenError](sub.Err())
			if !ok || broken.Reason != Refused || !errors.Is(broken, rpctypes.ErrInvalidAuthToken) || broken.Revision != 4 {
				t.Errorf("it ended with %v", sub.Err())
			}
			s.mux.running.Wait()
		})
	}
}

func TestACancellationSaysWhatBecomesOfTheWatch(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		resp   *pb.WatchResponse
		reason Reason // 0 if the stream is to be opened again
		is     error
	}{
		"compacted":         {&pb.WatchResponse{CompactRevision: 8, CancelReason: "etcdserver: mvcc: required revision has been compacted"}, Compacted, nil},
		"compacted, silent": {&pb.WatchResponse{CompactRevision: 8}, Compacted, nil},
		"not allowed":       {&pb.WatchResponse{CancelReason: "etcdserver: permission denied"}, Refused, rpctypes.ErrPermissionDenied},
		"the token":         {&pb.WatchResponse{CancelReason: "etcdserver: invalid auth token"}, 0, errTokenStale},
		"no reason":         {&pb.WatchResponse{}, 0, errDropped},
	} {
		s, sub := quietStream(1<<20, 5, 4)
		s.mux.cfg.Patience = time.Minute
		s.events(1, false, putAt(5, 1))
		test.resp.Canceled, test.resp.WatchId = true, 1
		err := s.handle(test.resp)
		s.mux.running.Wait()
		if test.reason == 0 {
			if !errors.Is(err, test.is) || sub.Err() != nil || !resumable(err) {
				t.Errorf("%s: got %v, and the watch ended with %v", name, err, sub.Err())
			}
			continue
		}
		broken, ok := errors.AsType[*brokenError](sub.Err())
		if err != nil || !ok || broken.Reason != test.reason || broken.Revision != 5 || !errors.Is(broken.Err, test.is) || broken.CompactRevision != test.resp.CompactRevision {
			t.Errorf("%s: got %v, and the watch ended with %#v", name, err, sub.Err())
		}
		if d, err := sub.Receive(t.Context()); err != nil || d.UpTo != 5 {
			t.Errorf("%s: what came before is lost: %v, %v", name, d, err)
		}
		if s.ctx.Err() == nil || len(s.mux.streams) > 0 {
			t.Errorf("%s: the stream is left open for no watch", name)
		}
	}
}

// TestTheAnswerToACancellationIsNoNews: nor is what was under way before it.
func TestTheAnswerToACancellationIsNoNews(t *testing.T) {
	t.Parallel()
	s, first := quietStream(1<<20, 5, 4)
	second := newSubscription(context.Background(), clientv3.OpWatch("key", clientv3.WithRev(5)), 1<<20)
	s.add(second)
	s.accept(t, &pb.ResponseHeader{Revision: 4})
	late := newSubscription(context.Background(), clientv3.OpWatch("key", clientv3.WithRev(5)), 1<<20)
	s.add(late)
	s.sent()
	first.Stop(errStopped)
	late.Stop(errStopped) // before the server has accepted it
	s.events(1, false, putAt(5, 1))
	s.accept(t, &pb.ResponseHeader{Revision: 4})
	if got, want := s.sent(), []string{"cancel 1", "cancel 3"}; !slices.Equal(got, want) {
		t.Errorf("asked for %v, want %v", got, want)
	}
	for _, id := range []int64{1, 3} {
		if err := s.handle(&pb.WatchResponse{Canceled: true, WatchId: id, CancelReason: "etcdserver: permission denied"}); err != nil {
			t.Errorf("cancellation of %d: %v", id, err)
		}
	}
	s.events(2, false, putAt(5, 1))
	if d, err := second.Receive(t.Context()); err != nil || d.UpTo != 5 {
		t.Errorf("the other watch got %v, %v", d, err)
	}
	// A refusal of one that has gone hurts nobody, either.
	gone := newSubscription(context.Background(), clientv3.OpWatch("key", clientv3.WithRev(5)), 1<<20)
	s.add(gone)
	gone.Stop(errStopped)
	if err := s.handle(&pb.WatchResponse{Created: true, WatchId: clientv3.InvalidWatchID, CancelReason: "etcdserver: invalid auth token"}); err != nil {
		t.Errorf("refusal of one that has gone: %v", err)
	}
	if err := s.handle(&pb.WatchResponse{Created: true, WatchId: 9}); !resumable(err) {
		t.Errorf("an answer without a question: got %v", err)
	}
}

func TestTheFirstCreationIsToldToWhoAskedForIt(t *testing.T) {
	t.Parallel()
	for _, wanted := range []bool{false, true} {
		opts := []clientv3.OpOption{clientv3.WithRev(5)}
		if wanted {
			opts = append(opts, clientv3.WithCreatedNotify())
		}
		s, _ := quietStream(1<<20, 5, 4)
		sub := newSubscription(context.Background(), clientv3.OpWatch("key", opts...), 1<<20)
		s.add(sub)
		for range 2 {
			s.accept(t, &pb.ResponseHeader{Revision: 7})
			s.close()
			s.subs = map[*Subscription]struct{}{sub: {}}
			s.open()
		}
		all := sub.pending()
		if told := len(all) == 1 && all[0].Created && all[0].UpTo == 4 && all[0].Header.Revision == 7; told != wanted || len(all) > 1 {
			t.Errorf("wanted %v: told %v", wanted, all)
		}
	}
}

// TestAWatchOfTheFutureMovesToAStreamOfItsOwn: the server answers no request for
// progress on the stream of one.
func TestAWatchOfTheFutureMovesToAStreamOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := watchtest.NewServer(10)
		m, end := muxOn(server)
		defer end()
		now, err := m.Subscribe(t.Context(), clientv3.OpWatch("key"))
		if err != nil {
			t.Fatal(err)
		}
		future, err := m.Subscribe(t.Context(), clientv3.OpWatch("key", clientv3.WithRev(12)))
		if err != nil {
			t.Fatal(err)
		}
		next, err := m.Subscribe(t.Context(), clientv3.OpWatch("key", clientv3.WithRev(11)))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if now.stream.Load() != next.stream.Load() || now.stream.Load() == future.stream.Load() || len(server.Streams()) != 2 {
			t.Errorf("%d streams were opened; the watch of the future is with the others: %v", len(server.Streams()), now.stream.Load() == future.stream.Load())
		}
		if got := server.Streams()[0].Cancelled(); !slices.Equal(got, []int64{2}) {
			t.Errorf("cancelled on the shared stream: %v, want 2", got)
		}
		// Once it has begun, a server that is behind moves it no more.
		tell(server, future, putAt(12, 1))
		synctest.Wait()
		if d, err := future.Receive(t.Context()); err != nil || d.UpTo != 12 {
			t.Errorf("got %v, %v", d, err)
		}
		now.Stop(errStopped)
		next.Stop(errStopped)
		synctest.Wait()
		if len(m.streams) != 1 {
			t.Errorf("%d streams are left, want 1", len(m.streams))
		}
		end()
		if !errors.Is(future.Err(), errClosed) {
			t.Errorf("it ended with %v", future.Err())
		}
	})
}
