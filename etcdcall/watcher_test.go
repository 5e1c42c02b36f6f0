package etcdcall

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestAChannelIsReturnedWhenItsWatchIsAccepted, or when its context ends, as by
// clientv3.
func TestAChannelIsReturnedWhenItsWatchIsAccepted(t *testing.T) {
	t.Parallel()
	for _, rev := range []int64{0, 5} {
		synctest.Test(t, func(t *testing.T) {
			s := &watchServer{rev: 10}
			m, end := s.mux()
			defer end()
			s.open = func(context.Context, int) error { time.Sleep(2 * time.Second); return nil }
			for _, test := range []struct{ life, want time.Duration }{{time.Second, time.Second}, {time.Minute, 2 * time.Second}} {
				ctx, cancel := context.WithTimeout(t.Context(), test.life)
				defer cancel()
				began := time.Now()
				newWatcher(m).Watch(ctx, "key", clientv3.WithRev(rev))
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
		s := &watchServer{rev: 10}
		m, end := s.mux()
		defer end()
		w := newWatcher(m)
		w.close = end
		channel := w.Watch(t.Context(), "key")
		synctest.Wait()
		for rev := int64(11); rev <= 14; rev++ {
			s.last().answers <- &pb.WatchResponse{WatchId: 1, Events: []*clientv3.Event{putAt(rev, 1)}, Header: of(1, rev)}
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
