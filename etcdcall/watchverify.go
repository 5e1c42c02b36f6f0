package etcdcall

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reprise-go/reprise"
)

// A server that is behind what a watch has seen may lag. A linearizable read
// cannot, so that one which is behind proves that the store went back. But etcd
// before 3.4.42, 3.5.28 and 3.6.9 answers such a read from the past when a
// leader was paused that has been deposed meanwhile (etcd-io/etcd#20418). A
// server that hears from no quorum ceases to lead within the time of an
// election, which is a second by default. So what one read finds is believed
// when all others find it that are made in the time after it: verifyReads with
// pauses that begin with verifyPause and double.
const (
	verifyReads = 5
	verifyPause = 100 * time.Millisecond
)

// behindError is a linearizable read that is behind what a watch has seen.
type behindError struct {
	seen, read int64
	member     uint64
}

// Error tells both revisions, and who answered.
func (e *behindError) Error() string {
	return fmt.Sprintf("etcdcall: revision %d was seen, a linearizable read of member %x is of revision %d", e.seen, e.member, e.read)
}

// foreignError is a read that was answered by another cluster.
type foreignError struct{ before, now uint64 }

// Error tells both clusters.
func (e *foreignError) Error() string {
	return fmt.Sprintf("etcdcall: the watch began on cluster %x, cluster %x answers now", e.before, e.now)
}

// verify finds out whether a server that is behind what the watch has seen only
// lags, or whether that is no longer in the store. If the reads fail, nothing is
// known, and the next stream asks again.
func (s *watchStream) verify(sub *subscription, seen int64) {
	ctx, cancel := context.WithCancel(s.mux.led(sub.ctx))
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	err := reprise.Invoke(ctx, func(ctx context.Context, _ reprise.CallSettings) error {
		h, err := s.mux.read(ctx, string(sub.key))
		switch {
		case err != nil:
			return err
		case h.GetClusterId() != sub.cluster:
			return &foreignError{before: sub.cluster, now: h.GetClusterId()}
		case h.GetRevision() < seen:
			return &behindError{seen: seen, read: h.GetRevision(), member: h.GetMemberId()}
		}
		return nil
	}, reprise.WithMaxAttempts(verifyReads), reprise.WithRetry(func() reprise.Retryer {
		pauses := reprise.Backoff{Initial: verifyPause, Max: time.Second, Multiplier: 2, Jitter: reprise.JitterNone}
		return reprise.OnErrorFunc(pauses, isBehind)
	}))
	if behind, ok := errors.AsType[*behindError](err); ok {
		s.restored(sub, behind)
	} else if foreign, ok := errors.AsType[*foreignError](err); ok {
		s.restored(sub, foreign)
	}
}

func isBehind(err error) bool {
	_, ok := errors.AsType[*behindError](err)
	return ok
}

// restored breaks a watch whose store is not the one it was.
func (s *watchStream) restored(sub *subscription, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail(sub, &WatchError{Reason: WatchRestored, Revision: sub.complete(), Err: why})
}
