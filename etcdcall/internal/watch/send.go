package watch

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// checksPerSilence is how many times the server is asked something within the
// time after which its silence ends the stream.
const checksPerSilence = 4

// send sends what is put until ctx ends. It asks for progress in between, which
// keeps the revisions to resume at from growing so old that they are compacted,
// and for a sign of life if progress is not told.
func (s *stream) send(ctx context.Context, rpc pb.Watch_WatchClient) {
	check := time.NewTicker(s.mux.cfg.Silence / checksPerSilence)
	defer check.Stop()
	for {
		select {
		case <-s.wake:
		case <-check.C:
			s.check()
		case <-ctx.Done():
			return
		}
		for _, req := range s.takeOut() {
			if rpc.Send(req) != nil {
				return // Recv says why
			}
		}
	}
}

func (s *stream) check() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.askProgress()
	if s.quiet() > s.mux.cfg.Silence/checksPerSilence*3/2 {
		s.askSign()
	}
}

func (s *stream) takeOut() []*pb.WatchRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.out
	s.out = nil
	return out
}

// quiet returns for how long nothing was heard.
func (s *stream) quiet() time.Duration {
	return time.Duration(time.Now().UnixNano() - s.heard.Load())
}

// alarm calls a function when nothing was heard for too long.
type alarm struct{ timer *time.Timer }

// watchForSilence begins to wait for the first sign now, until ctx ends.
func (s *stream) watchForSilence(ctx context.Context, silent func()) *alarm {
	s.heard.Store(time.Now().UnixNano())
	a := &alarm{}
	rearm := make(chan struct{})
	a.timer = time.AfterFunc(s.mux.cfg.Silence, func() {
		<-rearm
		if ctx.Err() != nil {
			return // and do not go on with the signs of the next gRPC stream
		}
		if left := s.mux.cfg.Silence - s.quiet(); left > 0 {
			a.timer.Reset(left)
			return
		}
		silent()
	})
	close(rearm)
	return a
}

func (a *alarm) stop() { a.timer.Stop() }
