package etcdcall

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestAServerThatIsBehindIsDoubtedUntilReadsAgree resumes a watch that has seen
// revision 20 on a server that is at 10.
func TestAServerThatIsBehindIsDoubtedUntilReadsAgree(t *testing.T) {
	t.Parallel()
	of := func(cluster uint64, rev int64) *pb.ResponseHeader {
		return &pb.ResponseHeader{ClusterId: cluster, MemberId: 0xabc, Revision: rev}
	}
	down := errors.New("down")
	for name, test := range map[string]struct {
		reads []any // what they answer, the last one from then on
		made  int
		took  time.Duration
		want  string // of the error; empty if the watch goes on
	}{
		"it lags":                       {reads: []any{of(1, 20)}, made: 1},
		"it lags, and writes go on":     {reads: []any{of(1, 30)}, made: 1},
		"a read was stale":              {reads: []any{of(1, 19), of(1, 20)}, made: 2, took: 100 * time.Millisecond},
		"all reads but one were stale":  {reads: []any{of(1, 19), of(1, 19), of(1, 19), of(1, 19), of(1, 20)}, made: 5, took: 1500 * time.Millisecond},
		"the store went back":           {reads: []any{of(1, 19)}, made: 5, took: 1500 * time.Millisecond, want: "revision 20 was seen, a linearizable read of member abc is of revision 19"},
		"the store is another":          {reads: []any{of(2, 30)}, made: 1, want: "began on cluster 1, cluster 2 answers now"},
		"another store, seen too late":  {reads: []any{of(1, 19), of(2, 19)}, made: 2, took: 100 * time.Millisecond, want: "cluster 2"},
		"nobody can be asked":           {reads: []any{down}, made: 1},
		"nobody can be asked any more":  {reads: []any{of(1, 19), down}, made: 2, took: 100 * time.Millisecond},
		"the server is at the revision": {made: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began, last, made := time.Now(), time.Now(), 0
				m := newWatchMux(nil, watchSettings{buffer: 1 << 20}, nil, func(context.Context, string) (*pb.ResponseHeader, error) {
					answer := test.reads[min(made, len(test.reads)-1)]
					last, made = time.Now(), made+1
					if err, ok := answer.(error); ok {
						return nil, err
					}
					return answer.(*pb.ResponseHeader), nil
				})
				s := newWatchStream(t.Context(), m, streamKey{})
				m.streams[s.key] = s
				s.open()
				sub := newSubscription(t.Context(), clientv3.OpWatch("key", clientv3.WithRev(21)), 1<<20)
				sub.seen, sub.cluster = 20, 1
				s.add(sub)
				at := of(1, 10)
				if test.reads == nil {
					at = of(1, 20)
				}
				if err := s.handle(&pb.WatchResponse{Created: true, WatchId: s.lastID, Header: at}); err != nil {
					t.Fatal(err)
				}
				m.running.Wait()
				if made != test.made || last.Sub(began) != test.took {
					t.Errorf("%d reads were made within %v, want %d within %v", made, last.Sub(began), test.made, test.took)
				}
				err := sub.ended()
				broken, _ := errors.AsType[*WatchError](err)
				switch {
				case test.want == "" && err != nil:
					t.Errorf("it ended with %v", err)
				case test.want != "" && (broken == nil || broken.Reason != WatchRestored || broken.Revision != 20 || !strings.Contains(err.Error(), test.want)):
					t.Errorf("it ended with %v, want one that says %q", err, test.want)
				}
			})
		})
	}
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
	broken, ok := errors.AsType[*WatchError](sub.ended())
	if !ok || broken.Reason != WatchRestored || !strings.Contains(broken.Error(), "began on cluster 1, cluster 2 answers now") {
		t.Errorf("it ended with %v", sub.ended())
	}
}
