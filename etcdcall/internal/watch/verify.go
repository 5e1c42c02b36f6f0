package watch

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
// pauses that begin with verifyPause and double. A read that fails finds nothing;
// it is made again, in the end each verifyAgain.
const (
	verifyReads = 5
	verifyPause = 100 * time.Millisecond
	verifyAgain = 10 * time.Second
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

// doubt has it found out whether the store still has what sub has seen, by one
// verification at a time. The caller holds s.mu.
func (s *stream) doubt(sub *Subscription) {
	if sub.doubts++; sub.doubts == 1 {
		s.beginVerify(sub)
	}
}

func (s *stream) beginVerify(sub *Subscription) {
	doubts, seen := sub.doubts, sub.seen
	s.mux.running.Go(func() { s.settle(sub, doubts, s.verify(sub, seen)) })
}

// verify finds out whether a server that is behind what the watch has seen only
// lags, or whether that is no longer in the store: then it returns how that
// shows, a *behindError or a *foreignError. It goes on until it knows or the
// watch ends.
func (s *stream) verify(sub *Subscription, seen int64) error {
	ctx, cancel := context.WithCancel(s.mux.led(sub.ctx))
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	s.mux.running.Go(func() { // it may be stopped while its context lives
		select {
		case <-sub.done:
			cancel()
		case <-ctx.Done():
		}
	})
	return reprise.Invoke(ctx, func(ctx context.Context, _ reprise.CallSettings) error {
		h, err := s.mux.cfg.Read(ctx, string(sub.key))
		switch {
		case err != nil:
			return err
		case h.GetClusterId() != sub.cluster:
			return &foreignError{before: sub.cluster, now: h.GetClusterId()}
		case h.GetRevision() < seen:
			return &behindError{seen: seen, read: h.GetRevision(), member: h.GetMemberId()}
		}
		return nil
	}, reprise.WithRetry(func() reprise.Retryer { return newVerification() }))
}

// settle ends a verification that was begun after so many doubts. Those that
// came meanwhile, it may have read too early to settle.
func (s *stream) settle(sub *Subscription, doubts int, found error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case found != nil && !ended(found):
		s.fail(sub, Break{Reason: Restored, Revision: sub.complete(), Err: found})
	case found == nil && sub.doubts > doubts:
		s.beginVerify(sub)
	default:
		sub.doubts = 0
	}
}

// ended reports whether err is not what a read found, but the end of the time in
// which to find it.
func ended(err error) bool {
	_, ok := errors.AsType[*reprise.Error](err)
	return ok
}

// verification is the Retryer of verify.
type verification struct {
	behind        int // reads that were
	pauses, again reprise.Backoff
}

func newVerification() *verification {
	return &verification{
		pauses: reprise.Backoff{Initial: verifyPause, Max: time.Second, Multiplier: 2, Jitter: reprise.JitterNone},
		again:  reprise.Backoff{Initial: verifyPause, Max: verifyAgain, Multiplier: 2},
	}
}

// Retry implements reprise.Retryer.
func (v *verification) Retry(err error) (time.Duration, bool) {
	switch err.(type) { //nolint:errorlint // what verify returned
	case *foreignError:
		return 0, false
	case *behindError:
		v.behind++
		return v.pauses.Pause(), v.behind < verifyReads
	default:
		return v.again.Pause(), true
	}
}
