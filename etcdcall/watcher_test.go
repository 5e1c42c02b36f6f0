package etcdcall

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall/internal/watch"
	"github.com/reprise-go/reprise/etcdcall/internal/watchtest"
)

// watcherOn returns a Watcher on s.
func watcherOn(t *testing.T, s *watchtest.Server) *watcher {
	t.Helper()
	set := newSettings(nil)
	cfg := set.watch()
	cfg.Remote, cfg.Read = s, func(context.Context, string) (*pb.ResponseHeader, error) { return s.Header(), nil }
	w := newWatcher(watch.New(cfg))
	t.Cleanup(w.close)
	return w
}

// watching returns how many watches a server has.
func watching(s *watchtest.Server) (n int) {
	for _, st := range s.Streams() {
		if !st.Ended() {
			n += len(st.Created()) - len(st.Cancelled())
		}
	}
	return n
}

// TestAChannelIsReturnedWhenItsWatchIsAccepted, or when its context ends, as by
// clientv3.
func TestAChannelIsReturnedWhenItsWatchIsAccepted(t *testing.T) {
	t.Parallel()
	for _, rev := range []int64{0, 5} {
		synctest.Test(t, func(t *testing.T) {
			s := watchtest.NewServer(10)
			w := watcherOn(t, s)
			s.Open = func(context.Context, int) error { time.Sleep(2 * time.Second); return nil }
			for _, test := range []struct{ life, want time.Duration }{{time.Second, time.Second}, {time.Minute, 2 * time.Second}} {
				ctx, cancel := context.WithTimeout(t.Context(), test.life)
				defer cancel()
				began := time.Now()
				w.Watch(ctx, "key", clientv3.WithRev(rev))
				if took := time.Since(began); took != test.want {
					t.Errorf("from revision %d, with %v to live: returned after %v, want %v", rev, test.life, took, test.want)
				}
			}
		})
	}
}

// TestClosingWaitsForNoReader: what nobody reads is dropped.
func TestClosingWaitsForNoReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := watchtest.NewServer(10)
		w := watcherOn(t, s)
		channel := w.Watch(t.Context(), "key")
		synctest.Wait()
		for rev := int64(11); rev <= 14; rev++ {
			s.Last().Tell(1, putOf("key", rev))
		}
		synctest.Wait()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		read := 0
		for range channel {
			read++
		}
		if read > 1 {
			t.Errorf("%d responses waited in the channel", read)
		}
	})
}
