package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/internal/ending"
	"github.com/reprise-go/reprise/etcdcall/internal/watchtest"
)

var (
	errStopped = errors.New("stopped")
	errClosed  = errors.New("closed")
)

// brokenError is the error of the watches that break here.
type brokenError struct{ Break }

func (e *brokenError) Error() string { return fmt.Sprint(e.Reason, e.Err) }
func (e *brokenError) Unwrap() error { return e.Err }

// resumable takes a stream for final that ended with an answer.
func resumable(err error) bool { return ending.GaveUp(err) || status.Code(err) == codes.Unavailable }

// newMux returns a Mux whose errors are those of the tests.
func newMux(cfg Config) *Mux {
	cfg.Resumable, cfg.Broken = resumable, func(b Break) error { return &brokenError{b} }
	return New(cfg)
}

// muxOn returns a Mux on s, and what closes it.
func muxOn(s *watchtest.Server) (m *Mux, closing func()) {
	m = newMux(Config{
		Remote:  s,
		Read:    func(context.Context, string) (*pb.ResponseHeader, error) { return s.Header(), nil },
		Backoff: reprise.Backoff{Initial: 10 * time.Millisecond, Jitter: reprise.JitterNone}, Silence: 4 * time.Second, Buffer: 1 << 20,
	})
	return m, sync.OnceFunc(func() { m.Close(errClosed) })
}

// tell sends events to a watch on the stream that was opened last.
func tell(s *watchtest.Server, sub *Subscription, events ...*clientv3.Event) {
	on := sub.stream.Load()
	on.mu.Lock()
	id := sub.id
	on.mu.Unlock()
	s.Last().Tell(id, events...)
}

// wordsOf says what r asks for.
func wordsOf(r *pb.WatchCreateRequest) string {
	return fmt.Sprintf("[%s,%s) from %d, filters %v, previous %v, progress %v, fragments %v",
		r.Key, r.RangeEnd, r.StartRevision, r.Filters, r.PrevKv, r.ProgressNotify, r.Fragment)
}

func TestAResumedWatchAsksForTheSame(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts []clientv3.OpOption
		want string
	}{
		"plain":     {nil, "[key,) from %d, filters [], previous false, progress false, fragments true"},
		"a range":   {[]clientv3.OpOption{clientv3.WithPrefix()}, "[key,kez) from %d, filters [], previous false, progress false, fragments true"},
		"puts":      {[]clientv3.OpOption{clientv3.WithFilterDelete(), clientv3.WithPrevKV()}, "[key,) from %d, filters [NODELETE], previous true, progress false, fragments true"},
		"deletions": {[]clientv3.OpOption{clientv3.WithFilterPut()}, "[key,) from %d, filters [NOPUT], previous false, progress false, fragments true"},
		"progress":  {[]clientv3.OpOption{clientv3.WithProgressNotify()}, "[key,) from %d, filters [], previous false, progress true, fragments true"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := watchtest.NewServer(10)
			m, end := muxOn(s)
			defer end()
			sub, err := m.Subscribe(t.Context(), clientv3.OpWatch("key", test.opts...))
			if err != nil {
				t.Fatal(err)
			}
			check := func(want int64) {
				t.Helper()
				synctest.Wait()
				created := s.Last().Created()
				if len(created) != 1 || wordsOf(created[0]) != fmt.Sprintf(test.want, want) {
					t.Errorf("%s: asked for %v, want %s", name, created, fmt.Sprintf(test.want, want))
				}
			}
			breaks := func() {
				s.Last().Break(rpctypes.ErrGRPCStopped)
				time.Sleep(time.Second)
			}
			check(0)
			breaks() // before anything came
			check(11)
			tell(s, sub, putAt(11, 1), putAt(15, 1))
			synctest.Wait()
			breaks()
			check(16)
		})
	}
}

// TestAWatchFromNowBeginsWhereItsServerIs: that may have come further than the
// read had, and a server that lags tells what is older.
func TestAWatchFromNowBeginsWhereItsServerIs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ read, accepted, next int64 }{{10, 10, 11}, {10, 13, 14}, {10, 8, 11}} {
		s, _ := quietStream(1<<20, 5, 4)
		sub := newSubscription(context.Background(), clientv3.OpWatch("key"), 1<<20)
		sub.fresh, sub.next, sub.seen = true, test.read+1, test.read
		s.mux.cfg.Read = func(context.Context, string) (*pb.ResponseHeader, error) {
			return &pb.ResponseHeader{Revision: test.read}, nil
		}
		s.add(sub)
		s.accept(t, &pb.ResponseHeader{Revision: test.accepted})
		s.mux.running.Wait()
		if sub.next != test.next {
			t.Errorf("read at %d, accepted at %d: resumes at %d, want %d", test.read, test.accepted, sub.next, test.next)
		}
		s.events(s.lastID, false, putAt(9, 1), putAt(10, 1), putAt(test.next, 1))
		all := sub.pending()
		if len(all) != 1 || !slices.Equal(all[0].revisions(), []int64{test.next}) || sub.next != test.next+1 {
			t.Errorf("read at %d, accepted at %d: got %v, want revision %d", test.read, test.accepted, all, test.next)
		}
	}
}

// TestAStreamIsAskedForItsProgressFourTimesWithinTheSilence, and for a sign of
// life only if it does not tell it.
func TestAStreamIsAskedForItsProgressFourTimesWithinTheSilence(t *testing.T) {
	t.Parallel()
	for _, tells := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := watchtest.NewServer(10)
			s.Ignores = func(r *pb.WatchRequest) bool { return r.GetProgressRequest() != nil && !tells }
			m, end := muxOn(s)
			defer end()
			sub, err := m.Subscribe(t.Context(), clientv3.OpWatch("key"))
			if err != nil {
				t.Fatal(err)
			}
			s.Become(1, 20)
			time.Sleep(40*time.Second + time.Millisecond)
			synctest.Wait()
			progress, signs := s.Last().Asked()
			if n := len(s.Streams()); n != 1 || progress != 40 {
				t.Errorf("asked %d times within 40s, on %d streams", progress, n)
			}
			if tells && signs > 0 || !tells && (signs < 13 || signs > 40) {
				t.Errorf("progress is told %v: asked for %d signs of life", tells, signs)
			}
			if want := map[bool]int64{true: 21, false: 11}[tells]; sub.next != want {
				t.Errorf("progress is told %v: resumes at %d, want %d", tells, sub.next, want)
			}
		})
	}
}

// TestASilentServerIsLeft: after the last that was heard of it, or after the
// stream was to open.
func TestASilentServerIsLeft(t *testing.T) {
	t.Parallel()
	const silence = 4 * time.Second
	for name, test := range map[string]struct {
		opens bool
		heard time.Duration // until when it answers
	}{
		"it never answers":             {opens: true},
		"the stream does not open":     {opens: false},
		"it answers for half a minute": {opens: true, heard: 30 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := watchtest.NewServer(10)
			m, end := muxOn(s)
			defer end()
			began := time.Now()
			s.Ignores = func(*pb.WatchRequest) bool { return len(s.Streams()) == 1 && time.Since(began) > test.heard }
			if test.heard == 0 {
				s.Ignores = func(*pb.WatchRequest) bool { return len(s.Streams()) == 1 }
			}
			s.Open = func(ctx context.Context, n int) error {
				if n > 1 || test.opens {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}
			sub, err := m.Subscribe(t.Context(), clientv3.OpWatch("key", clientv3.WithRev(11)))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(test.heard + 2*silence)
			synctest.Wait()
			if len(s.Streams()) != 2 {
				t.Fatalf("%s: %d streams were opened", name, len(s.Streams()))
			}
			// With a pause of 10 ms in between.
			if got, want := s.Streams()[1].Opened().Sub(began), test.heard+silence+10*time.Millisecond; got != want {
				t.Errorf("%s: left after %v, want %v", name, got, want)
			}
			tell(s, sub, putAt(11, 1))
			if d, err := sub.Receive(t.Context()); err != nil || d.UpTo != 11 {
				t.Errorf("%s: got %v, %v", name, d, err)
			}
		})
	}
}

func TestAStreamThatCannotBeResumedEndsItsWatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := watchtest.NewServer(10)
		m, end := muxOn(s)
		defer end()
		sub, err := m.Subscribe(t.Context(), clientv3.OpWatch("key"))
		if err != nil {
			t.Fatal(err)
		}
		tell(s, sub, putAt(12, 1))
		synctest.Wait()
		s.Last().Break(rpctypes.ErrGRPCPermissionDenied)
		<-sub.done
		if d, err := sub.Receive(t.Context()); err != nil || d.UpTo != 12 {
			t.Errorf("what came before is lost: %v, %v", d, err)
		}
		_, err = sub.Receive(t.Context())
		broken, ok := errors.AsType[*brokenError](err)
		if !ok || broken.Reason != Refused || broken.Revision != 12 || !errors.Is(err, rpctypes.ErrGRPCPermissionDenied) {
			t.Errorf("it ended with %v", err)
		}
		synctest.Wait()
		if len(m.streams) != 0 {
			t.Errorf("%d streams are left", len(m.streams))
		}
		// The next watch has a stream of its own.
		if _, err := m.Subscribe(t.Context(), clientv3.OpWatch("key")); err != nil || len(s.Streams()) != 2 {
			t.Errorf("another watch: %v, on stream %d", err, len(s.Streams()))
		}
	})
}

// TestTheStreamOfTheLastWatchIsClosed, and the watch that comes then opens another.
func TestTheStreamOfTheLastWatchIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := watchtest.NewServer(10)
		m, end := muxOn(s)
		defer end()
		for n := 1; n <= 3; n++ {
			ctx, cancel := context.WithCancel(t.Context())
			first, err := m.Subscribe(ctx, clientv3.OpWatch("a"))
			if err != nil {
				t.Fatal(err)
			}
			second, err := m.Subscribe(t.Context(), clientv3.OpWatch("b"))
			if err != nil || first.stream.Load() != second.stream.Load() {
				t.Fatalf("%v, or the two share no stream", err)
			}
			cancel()
			synctest.Wait()
			if st := s.Last(); st.Ended() || !slices.Equal(st.Cancelled(), []int64{1}) || len(s.Streams()) != n {
				t.Errorf("after the first of two ended: %v, cancelled %v, %d streams", st.Ended(), st.Cancelled(), len(s.Streams()))
			}
			if !errors.Is(first.Err(), context.Canceled) || second.Err() != nil {
				t.Errorf("they ended with %v and %v", first.Err(), second.Err())
			}
			second.Stop(errStopped)
			synctest.Wait()
			if !s.Last().Ended() || len(m.streams) != 0 {
				t.Errorf("the stream is left open for no watch")
			}
		}
		end()
		if _, err := m.Subscribe(t.Context(), clientv3.OpWatch("key")); !errors.Is(err, errClosed) {
			t.Errorf("a closed client: got %v", err)
		}
	})
}
