package services

import (
	"context"
	"fmt"
	"time"

	"github.com/reprise-go/reprise"
)

// supervise calls Run until it is done, is given up, or ctx ends.
func (s *supervised) supervise(ctx context.Context) {
	r := &restarts{s: s, ctx: ctx}
	defer r.finish()
	_ = reprise.Invoke(ctx, r.run, reprise.WithRetry(func() reprise.Retryer { return r }))
}

// restarts is the Retryer under which Run is called: the policy of the Config,
// made anew after a stable run, with the bookkeeping around it.
type restarts struct {
	s   *supervised
	ctx context.Context

	policy  reprise.Retryer
	attempt int
	began   time.Time
	ran     time.Duration
	err     error // of the last run
	handled bool  // the last run has ended and was told as such
}

// run is one call of Run. It gets the context of the service and not that of
// the attempt, whose retry header would go out with every RPC that Run makes.
func (r *restarts) run(context.Context, reprise.CallSettings) error {
	s := r.s
	r.attempt++
	r.began = time.Now()
	r.handled = false
	r.err = errUnreturned // holds if Run does not return
	status := s.newStatus()
	s.begin(status)
	defer func() {
		r.ran = time.Since(r.began)
		status.end()
	}()
	if s.cfg.CrashOnPanic {
		r.err = s.cfg.Run(r.ctx, status)
	} else {
		r.err = protect(func() error { return s.cfg.Run(r.ctx, status) })
	}
	return r.err
}

// Retry implements reprise.Retryer.
func (r *restarts) Retry(err error) (pause time.Duration, shouldRetry bool) {
	if r.ctx.Err() != nil {
		return 0, false
	}
	stable := r.s.cfg.Stable
	if r.policy == nil || (stable > 0 && r.ran >= stable) {
		r.policy = nil
		if r.s.cfg.Restart != nil {
			r.policy = r.s.cfg.Restart()
		}
	}
	if r.policy == nil {
		return 0, false
	}
	pause, shouldRetry = r.policy.Retry(err)
	if shouldRetry {
		r.s.rest(fmt.Errorf("run %d failed, the next begins in %v: %w", r.attempt, pause, err))
		r.tell(EventRestarting, max(pause, 0))
		r.handled = true
	}
	return pause, shouldRetry
}

// finish notes why there is no further run.
func (r *restarts) finish() {
	s := r.s
	switch {
	case r.ctx.Err() != nil && (r.handled || r.attempt == 0): // no run was under way
		s.rest(nil)
	case r.ctx.Err() != nil:
		if _, ok := r.err.(*PanicError); ok { //nolint:errorlint // protect returns it as it is
			s.panicked = fmt.Errorf("run %d: %w", r.attempt, r.err)
		}
		s.rest(nil)
		r.tell(EventStopped, -1)
	case r.err == nil:
		s.rest(nil)
		s.end(nil)
		r.tell(EventDone, -1)
	default:
		err := &GaveUpError{Service: s.cfg.Name, Attempt: r.attempt, Err: r.err}
		s.rest(err)
		s.end(err)
		r.tell(EventGaveUp, -1)
	}
}

func (r *restarts) tell(kind EventKind, pause time.Duration) {
	if r.s.cfg.OnEvent == nil {
		return
	}
	r.s.cfg.OnEvent(Event{
		Service: r.s.cfg.Name,
		Kind:    kind,
		Attempt: r.attempt,
		Ran:     r.ran,
		Err:     r.err,
		Pause:   pause,
	})
}

func (s *supervised) newStatus() *Status {
	status := &Status{report: s.SvcErrBuffer.Append}
	if s.cfg.ManualReady {
		status.ready = errNotReadyYet
	}
	return status
}

// begin notes that a run begins, whose status counts from now on. A failure
// that no report has held yet is kept for the next one.
func (s *supervised) begin(status *Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unseen {
		s.SvcErrBuffer.Append(s.readiness)
	}
	s.status, s.readiness, s.unseen = status, nil, false
}

// rest notes that there is no present run, and why if that is a failure.
func (s *supervised) rest(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.readiness, s.unseen = nil, why, why != nil
}
