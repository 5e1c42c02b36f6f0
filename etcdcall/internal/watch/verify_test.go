package watch

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// of is what a member of a cluster says at a revision.
func of(cluster uint64, rev int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: cluster, MemberId: 0xabc, Revision: rev}
}

// doubtfulStream is a stream on which nothing is sent, with one watch that
// has seen revision 20 of cluster 1 and that no server has accepted since. read
// answers its reads.
func doubtfulStream(ctx context.Context, read func(context.Context) (*pb.ResponseHeader, error)) (*stream, *Subscription) {
	m := newMux(Config{Buffer: 1 << 20, Read: func(ctx context.Context, _ string) (*pb.ResponseHeader, error) { return read(ctx) }})
	s := newStream(context.Background(), m, streamKey{})
	m.streams[s.key] = s
	s.open()
	sub := newSubscription(ctx, clientv3.OpWatch("key", clientv3.WithRev(21)), 1<<20)
	sub.seen, sub.cluster = 20, 1
	s.add(sub)
	sub.hook()
	return s, sub
}

// accept lets a server accept the watch that was asked for last.
func (s *stream) accept(t *testing.T, at *pb.ResponseHeader) {
	t.Helper()
	if err := s.handle(&pb.WatchResponse{Created: true, WatchId: s.lastID, Header: at}); err != nil {
		t.Fatal(err)
	}
}

// TestAServerThatIsBehindIsDoubtedUntilReadsAgree resumes a watch that has seen
// revision 20 on a server that is at 10.
func TestAServerThatIsBehindIsDoubtedUntilReadsAgree(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reads []*pb.ResponseHeader // what they answer, the last one from then on
		made  int
		took  time.Duration
		want  string // of the error; empty if the watch goes on
	}{
		"it lags":                       {reads: []*pb.ResponseHeader{of(1, 20)}, made: 1},
		"it lags, and writes go on":     {reads: []*pb.ResponseHeader{of(1, 30)}, made: 1},
		"a read was stale":              {reads: []*pb.ResponseHeader{of(1, 19), of(1, 20)}, made: 2, took: 100 * time.Millisecond},
		"all reads but one were stale":  {reads: []*pb.ResponseHeader{of(1, 19), of(1, 19), of(1, 19), of(1, 19), of(1, 20)}, made: 5, took: 1500 * time.Millisecond},
		"the store went back":           {reads: []*pb.ResponseHeader{of(1, 19)}, made: 5, took: 1500 * time.Millisecond, want: "revision 20 was seen, a linearizable read of member abc is of revision 19"},
		"the store is another":          {reads: []*pb.ResponseHeader{of(2, 30)}, made: 1, want: "began on cluster 1, cluster 2 answers now"},
		"another store, seen too late":  {reads: []*pb.ResponseHeader{of(1, 19), of(2, 19)}, made: 2, took: 100 * time.Millisecond, want: "cluster 2"},
		"the server is at the revision": {made: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began, last, made := time.Now(), time.Now(), 0
				s, sub := doubtfulStream(t.Context(), func(context.Context) (*pb.ResponseHeader, error) {
					answer := test.reads[min(made, len(test.reads)-1)]
					last, made = time.Now(), made+1
					return answer, nil
				})
				at := of(1, 10)
				if test.reads == nil {
					at = of(1, 20)
				}
				s.accept(t, at)
				s.mux.running.Wait()
				if made != test.made || last.Sub(began) != test.took {
					t.Errorf("%d reads were made within %v, want %d within %v", made, last.Sub(began), test.made, test.took)
				}
				err := sub.Err()
				broken, _ := errors.AsType[*brokenError](err)
				switch {
				case test.want == "" && err != nil:
					t.Errorf("it ended with %v", err)
				case test.want != "" && (broken == nil || broken.Reason != Restored || broken.Revision != 20 || !strings.Contains(err.Error(), test.want)):
					t.Errorf("it ended with %v, want one that says %q", err, test.want)
				}
			})
		})
	}
}

// TestADoubtOutlivesReadsThatFail: no other stream is opened that would ask.
func TestADoubtOutlivesReadsThatFail(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for name, test := range map[string]struct {
		up     *pb.ResponseHeader // what all reads answer but those that fail
		failed func(n int) bool   // whether the n-th does, from 1 on
		made   int
		broken bool
	}{
		"the store went back":                  {up: of(1, 19), failed: func(n int) bool { return n <= 20 }, made: 25, broken: true},
		"the store went back, some reads fail": {up: of(1, 19), failed: func(n int) bool { return n%2 == 0 }, made: 9, broken: true},
		"the store is another":                 {up: of(2, 30), failed: func(n int) bool { return n <= 20 }, made: 21, broken: true},
		"it only lagged":                       {up: of(1, 20), failed: func(n int) bool { return n <= 20 }, made: 21},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				made := 0
				s, sub := doubtfulStream(t.Context(), func(context.Context) (*pb.ResponseHeader, error) {
					if made++; test.failed(made) {
						return nil, down
					}
					return test.up, nil
				})
				s.accept(t, of(1, 10))
				s.mux.running.Wait()
				broken, _ := errors.AsType[*brokenError](sub.Err())
				if made != test.made || test.broken != (broken != nil && broken.Reason == Restored) {
					t.Errorf("after %d reads, want %d, it ended with %v", made, test.made, sub.Err())
				}
			})
		})
	}
}

// TestADoubtEndsWithItsWatch: until then it asks some times a minute.
func TestADoubtEndsWithItsWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const life = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), life)
		defer cancel()
		made := 0
		s, sub := doubtfulStream(ctx, func(context.Context) (*pb.ResponseHeader, error) {
			made++
			return nil, errors.New("down")
		})
		s.accept(t, of(1, 10))
		s.mux.running.Wait()
		if least := int(life / verifyAgain); made < least || made > 4*least {
			t.Errorf("%d reads within %v", made, life)
		}
		<-ctx.Done()
		synctest.Wait()
		if err := sub.Err(); err != context.DeadlineExceeded { //nolint:errorlint // and no *brokenError about it
			t.Errorf("it ended with %v", err)
		}
	})
}

// TestAWatchThatEndsBeforeAllReadsAgreeIsNotBroken: all of them take 1.5 s.
func TestAWatchThatEndsBeforeAllReadsAgreeIsNotBroken(t *testing.T) {
	t.Parallel()
	for _, life := range []time.Duration{50 * time.Millisecond, 250 * time.Millisecond, 1400 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), life)
			defer cancel()
			s, sub := doubtfulStream(ctx, func(context.Context) (*pb.ResponseHeader, error) { return of(1, 19), nil })
			s.accept(t, of(1, 10))
			<-sub.done
			if err := sub.Err(); err != context.DeadlineExceeded { //nolint:errorlint // and no *brokenError about it
				t.Errorf("with %v to live, it ended with %v", life, err)
			}
		})
	}
}

// TestAReadThatHangsEndsWithItsWatchOrItsStream: nothing else would end it.
func TestAReadThatHangsEndsWithItsWatchOrItsStream(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *stream, sub *Subscription, cancel context.CancelFunc){
		"the context": func(_ *stream, _ *Subscription, cancel context.CancelFunc) { cancel() },
		"the watch":   func(_ *stream, sub *Subscription, _ context.CancelFunc) { sub.Stop(errStopped) },
		"the stream":  func(s *stream, _ *Subscription, _ context.CancelFunc) { s.cancel() },
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var reading atomic.Bool
			s, sub := doubtfulStream(ctx, func(ctx context.Context) (*pb.ResponseHeader, error) {
				reading.Store(true)
				<-ctx.Done()
				reading.Store(false)
				return nil, ctx.Err()
			})
			s.accept(t, of(1, 10))
			synctest.Wait()
			if !reading.Load() {
				t.Fatalf("%s: nothing is read", name)
			}
			// Without another watch on it, the stream ends with the watch.
			s.add(newSubscription(context.Background(), clientv3.OpWatch("other", clientv3.WithRev(21)), 1<<20))
			end(s, sub, cancel)
			synctest.Wait()
			if reading.Load() {
				t.Errorf("%s: the read goes on", name)
			}
			if broken, ok := errors.AsType[*brokenError](sub.Err()); ok {
				t.Errorf("%s: it broke: %v", name, broken)
			}
		})
	}
}

// TestASecondDoubtIsSettledAsTheFirst: the store goes back after the first.
func TestASecondDoubtIsSettledAsTheFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		at := of(1, 20)
		s, sub := doubtfulStream(t.Context(), func(context.Context) (*pb.ResponseHeader, error) { return at, nil })
		for _, rev := range []int64{20, 20, 19} {
			if err := sub.Err(); err != nil {
				t.Fatalf("it ended with %v", err)
			}
			at = of(1, rev)
			s.close()
			s.open()
			s.accept(t, of(1, 10))
			s.mux.running.Wait()
		}
		if broken, ok := errors.AsType[*brokenError](sub.Err()); !ok || broken.Reason != Restored {
			t.Errorf("it ended with %v", sub.Err())
		}
	})
}

// TestADoubtThatRisesWhileAnotherIsSettledIsSettledToo: the store goes back
// after it has answered the read of the first.
func TestADoubtThatRisesWhileAnotherIsSettledIsSettledToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		made, under, most := 0, 0, 0
		s, sub := doubtfulStream(t.Context(), func(context.Context) (*pb.ResponseHeader, error) {
			made++
			under++
			most = max(most, under)
			defer func() { under-- }()
			if made > 1 {
				return of(1, 19), nil
			}
			time.Sleep(time.Second)
			return of(1, 20), nil
		})
		s.accept(t, of(1, 10))
		for range 3 {
			synctest.Wait()
			s.close()
			s.open()
			s.accept(t, of(1, 10))
		}
		s.mux.running.Wait()
		if broken, ok := errors.AsType[*brokenError](sub.Err()); !ok || broken.Reason != Restored {
			t.Errorf("it ended with %v", sub.Err())
		}
		if made != 1+verifyReads || most != 1 {
			t.Errorf("%d reads were made, %d of them at a time; want %d one by one", made, most, 1+verifyReads)
		}
	})
}

func TestAWatchBreaksAtOnceWhenAnotherClusterAcceptsIt(t *testing.T) {
	t.Parallel()
	s, sub := quietStream(1<<20, 5, 4)
	s.close()
	s.open()
	sub.cluster = 1 // the answers of quietStream have none
	other := &pb.ResponseHeader{ClusterId: 2, Revision: 100}
	if err := s.handle(&pb.WatchResponse{Created: true, WatchId: s.lastID, Header: other}); err != nil {
		t.Fatal(err)
	}
	s.mux.running.Wait()
	broken, ok := errors.AsType[*brokenError](sub.Err())
	if !ok || broken.Reason != Restored || !strings.Contains(broken.Error(), "began on cluster 1, cluster 2 answers now") {
		t.Errorf("it ended with %v", sub.Err())
	}
}
