package watch

import (
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall/internal/ending"
)

// handle takes in what the server sent. An error ends the gRPC stream.
func (s *stream) handle(resp *pb.WatchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worked = true
	switch {
	case resp.Created:
		return s.handleCreated(resp)
	case resp.Canceled:
		return s.handleCanceled(resp)
	case resp.WatchId == clientv3.InvalidWatchID:
		s.handleProgress(resp.Header)
		return nil
	default:
		s.handleEvents(resp)
		return nil
	}
}

func (s *stream) handleCreated(resp *pb.WatchResponse) error {
	if len(s.asked) == 0 {
		return ending.ErrOrder
	}
	c := s.asked[0]
	s.asked = s.asked[1:]
	defer s.askNext()
	if c.sub == nil {
		return nil
	}
	c.sub.asked = false
	if resp.WatchId == clientv3.InvalidWatchID || resp.Canceled {
		return s.handleRefused(c.sub, reasonError(resp.CancelReason))
	}
	if resp.WatchId != c.id && !s.mux.serial.Swap(true) {
		return errNumbering
	}
	sub := c.sub
	if _, ok := s.subs[sub]; !ok {
		s.discard(resp.WatchId)
		return nil
	}
	sub.id = resp.WatchId
	s.byID[sub.id] = sub
	sub.refused = time.Time{}
	s.accepted(sub, resp.Header)
	return nil
}

// accepted begins or resumes a watch that the server has accepted.
func (s *stream) accepted(sub *Subscription, h *pb.ResponseHeader) {
	if sub.cluster == 0 {
		sub.cluster = h.GetClusterId()
	}
	if sub.cluster != h.GetClusterId() {
		why := &foreignError{before: sub.cluster, now: h.GetClusterId()}
		s.fail(sub, Break{Reason: Restored, Revision: sub.complete(), Err: why})
		return
	}
	sub.bound = h.GetRevision()
	switch {
	case sub.seen > h.GetRevision():
		s.doubt(sub)
	case sub.seen == 0 && sub.next > h.GetRevision()+1 && s.key.alone == 0:
		s.drop(sub)
		delete(s.subs, sub)
		s.mux.running.Go(func() { s.move(sub) })
		return
	}
	sub.saw(h.GetRevision())
	if sub.fresh {
		sub.fresh = false
		sub.next = max(sub.next, h.GetRevision()+1)
	}
	select {
	case <-sub.started:
	default:
		close(sub.started)
		if sub.created {
			s.deliver(sub, Delivery{Header: h, Created: true, UpTo: sub.next - 1})
		}
	}
}

// move gives a watch of the future a stream of its own.
func (s *stream) move(sub *Subscription) {
	if err := s.mux.attach(sub, s.mux.alone.Add(1)); err != nil {
		sub.finish(err, true)
	}
	if sub.Err() != nil {
		sub.stream.Load().remove(sub)
	}
	s.mux.retire(s)
}

// handleRefused ends a watch that the server does not grant, unless all that is
// wrong is the token, which is a new one on a new stream.
func (s *stream) handleRefused(sub *Subscription, err error) error {
	if _, ok := s.subs[sub]; !ok {
		return nil
	}
	if isTokenError(err) {
		if sub.refused.IsZero() {
			sub.refused = time.Now()
		}
		if time.Since(sub.refused) < s.mux.cfg.Patience {
			s.worked = false
			return errTokenStale
		}
	}
	s.fail(sub, Break{Reason: Refused, Revision: sub.complete(), Err: err})
	return nil
}

func (s *stream) handleCanceled(resp *pb.WatchResponse) error {
	sub := s.byID[resp.WatchId]
	if sub == nil {
		return nil // the answer to a cancellation
	}
	delete(s.byID, resp.WatchId)
	sub.id, sub.part = 0, nil
	switch {
	case resp.CompactRevision != 0:
		s.fail(sub, Break{Reason: Compacted, Revision: sub.complete(), CompactRevision: resp.CompactRevision})
		return nil
	case resp.CancelReason != "":
		return s.handleRefused(sub, reasonError(resp.CancelReason))
	default:
		return errDropped
	}
}

// handleProgress takes in that the server has sent everything up to the
// revision in h to all watches on the stream.
func (s *stream) handleProgress(h *pb.ResponseHeader) {
	s.progressAsked = max(s.progressAsked-1, 0)
	owed := s.progressOwed > 0
	if owed {
		s.progressOwed--
	}
	for _, sub := range s.byID {
		s.advance(sub, h, owed)
	}
}

// advance takes in that sub has received everything up to the revision in h,
// and tells the reader if owed.
func (s *stream) advance(sub *Subscription, h *pb.ResponseHeader, owed bool) {
	rev := h.GetRevision()
	if sub.unproved && rev <= sub.bound {
		return // the answer may be to a question from before the watch
	}
	further := rev >= sub.next
	sub.next = max(sub.next, rev+1)
	sub.saw(rev)
	if owed || further && sub.progress {
		s.deliver(sub, Delivery{Header: h, UpTo: sub.next - 1})
	}
}

func (s *stream) handleEvents(resp *pb.WatchResponse) {
	sub := s.byID[resp.WatchId]
	if sub == nil {
		return // it came after the watch was cancelled
	}
	if len(resp.Events) == 0 && !resp.Fragment && len(sub.part) == 0 {
		s.advance(sub, resp.Header, sub.progress)
		return
	}
	events := resp.Events
	if len(sub.part) > 0 {
		events = append(sub.part, events...)
		sub.part = nil
	}
	if resp.Fragment {
		events, sub.part = splitRevision(events)
	}
	events = since(events, sub.next)
	if len(events) == 0 {
		return
	}
	last := events[len(events)-1].GetKv().GetModRevision()
	sub.next = last + 1
	sub.saw(last)
	h := resp.Header
	if resp.Fragment {
		h = &pb.ResponseHeader{ClusterId: h.GetClusterId(), MemberId: h.GetMemberId(), RaftTerm: h.GetRaftTerm(), Revision: last}
	}
	s.deliver(sub, Delivery{Header: h, Events: events, UpTo: last})
}

// splitRevision returns the events of all revisions but the last, and those of
// the last, of which more may follow.
func splitRevision(events []*clientv3.Event) (whole, rest []*clientv3.Event) {
	i := len(events)
	for i > 0 && events[i-1].GetKv().GetModRevision() == events[len(events)-1].GetKv().GetModRevision() {
		i--
	}
	return events[:i:i], slices.Clone(events[i:])
}

// since returns the events from revision rev on. Servers with known faults send
// some events again after a compaction or a resumption.
func since(events []*clientv3.Event, rev int64) []*clientv3.Event {
	for i, ev := range events {
		if ev.GetKv().GetModRevision() >= rev {
			return events[i:]
		}
	}
	return nil
}

// deliver queues d. If the queue is full then, the watch is taken off the
// server until its reader has caught up.
func (s *stream) deliver(sub *Subscription, d Delivery) {
	if sub.push(d) {
		s.drop(sub)
	}
}

// fail breaks a watch.
func (s *stream) fail(sub *Subscription, b Break) {
	s.drop(sub)
	sub.finish(s.mux.cfg.Broken(b), true)
	if _, ok := s.subs[sub]; ok {
		delete(s.subs, sub)
		if len(s.subs) == 0 {
			s.mux.running.Go(func() { s.mux.retire(s) })
		}
	}
}

// saw notes that revision rev is in the store.
func (q *Subscription) saw(rev int64) { q.seen = max(q.seen, rev) }

// complete is the revision of which everything has been received.
func (q *Subscription) complete() int64 {
	return min(q.next-1, q.seen)
}
