package services

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/reprise-go/reprise"
)

// ErrGaveUp is matched by every [*GaveUpError].
var ErrGaveUp = errors.New("gave up")

// Config is what [New] makes a service of. Only Name is required.
type Config struct {
	// Name is the full name of the service.
	Name string
	// Subs are the services that this one is made of. They are started first,
	// in order, and closed last, in reverse, also when the start fails. Ready
	// and HealthReport include them, and one that gave up ends this service.
	Subs []Service
	// Start is called once, after Subs have started. The rules of
	// [StartClose] hold for it.
	Start func(ctx context.Context) error
	// Run is the work of the service, in a goroutine of its own. When it
	// returns nil the work is done; when it returns an error or panics, Restart
	// says whether and when it is called again. When the service is closed, ctx
	// ends with the cause [ErrStopped] and Run must return; what it returns
	// then is told to OnEvent and otherwise ignored, but for a panic.
	Run func(ctx context.Context, status *Status) error
	// Close is called once, after Run has returned and before Subs are closed.
	Close func() error

	// Restart makes the policy that decides on restarts: the same kind that
	// retries a call, asked in the same loop. If it is nil or returns nil, Run
	// is not called again after a failure.
	Restart func() reprise.Retryer
	// Stable is how long a run must have lasted for its failure to count as the
	// first again: the policy is made anew, so that the pauses start small. It
	// is 1 minute if zero; a negative value never makes the policy anew.
	Stable time.Duration
	// ManualReady makes each run begin as not ready, until it calls
	// [Status.Ready] with nil. Otherwise the service is ready while Run runs.
	ManualReady bool
	// CrashOnPanic lets a panic of Run end the process instead of counting as
	// a failure.
	CrashOnPanic bool
	// OnEvent is called each time that Run has returned, from the goroutine of
	// Run. It must not block and must not close the service.
	OnEvent func(Event)
}

// Event tells how one call of Run ended and what follows.
type Event struct {
	Service string
	Kind    EventKind
	Attempt int           // the number of the call, from 1
	Ran     time.Duration // how long the call lasted
	Err     error         // what it returned; a panic is a *PanicError
	Pause   time.Duration // until the next call; negative if there is none
}

// EventKind says what an [Event] tells.
type EventKind int

const (
	// EventRestarting: Run failed and is called again after the pause.
	EventRestarting EventKind = iota + 1
	// EventGaveUp: Run failed and is not called again.
	EventGaveUp
	// EventDone: Run returned nil.
	EventDone
	// EventStopped: Run returned after the service was closed.
	EventStopped
)

// String returns the kind in lower case: restarting, gave up, done or stopped.
func (k EventKind) String() string {
	switch k {
	case EventRestarting:
		return "restarting"
	case EventGaveUp:
		return "gave up"
	case EventDone:
		return "done"
	case EventStopped:
		return "stopped"
	default:
		return fmt.Sprintf("EventKind(%d)", int(k))
	}
}

// GaveUpError is the error of a service whose Run failed and is not called
// again. It matches [ErrGaveUp] and the error of the last run.
type GaveUpError struct {
	Service string
	Attempt int   // how many times Run was called
	Err     error // what the last call returned
}

// Error names the service, the number of runs and the last error.
func (e *GaveUpError) Error() string {
	return fmt.Sprintf("%s: %v after run %d: %v", e.Service, ErrGaveUp, e.Attempt, e.Err)
}

// Unwrap returns ErrGaveUp and the error of the last run.
func (e *GaveUpError) Unwrap() []error { return []error{ErrGaveUp, e.Err} }

// New returns a [Service] made of cfg, which also implements [Ender]. A Config
// that lacks a name or holds a nil service is reported by Start.
//
// The service is ready while it is started, Run runs (or is done) and says
// nothing else through its [Status], and all of Subs are ready. Its health
// report holds, under its name, whatever makes it not run, the conditions that
// Run has set and the errors that it has reported since the last report, each
// failure of Run among them; and the reports of Subs.
func New(cfg Config) Service {
	if cfg.Stable == 0 {
		cfg.Stable = time.Minute
	}
	return &supervised{
		cfg:       cfg,
		ended:     make(chan struct{}),
		unended:   1 + len(cfg.Subs),
		readiness: errNotRunning,
	}
}

var errNotRunning = errors.New("not running yet")

// supervised is a service made by New.
type supervised struct {
	StateMachine

	cfg    Config
	subs   MultiStart
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup // the goroutines of Run and of the watches of Subs

	ended chan struct{}

	mu        sync.Mutex
	endErr    error
	unended   int     // how many of Run and Subs have not ended by themselves
	status    *Status // of the present run; nil when there is none
	readiness error   // when there is no present run
	unseen    bool    // readiness is a failure that no report has held yet
	panicked  error   // the panic of a run that was asked to stop
}

// Start starts Subs, calls the hook and launches Run.
func (s *supervised) Start(ctx context.Context) error {
	if s.cfg.Name == "" {
		return errors.New("misconfigured service: Config.Name is empty")
	}
	if i := slices.Index(s.cfg.Subs, nil); i >= 0 {
		return fmt.Errorf("misconfigured service %s: Config.Subs[%d] is nil", s.cfg.Name, i)
	}
	return s.StartOnce(s.cfg.Name, func() error {
		started := false
		defer func() {
			if !started { // the hook panicked
				_ = s.subs.Close()
			}
		}()
		err := s.start(ctx)
		started = true
		return err
	})
}

func (s *supervised) start(ctx context.Context) error {
	for _, sub := range s.cfg.Subs {
		if err := s.subs.Start(ctx, sub); err != nil {
			return err
		}
	}
	if s.cfg.Start != nil {
		if err := s.cfg.Start(ctx); err != nil {
			return s.subs.CloseBecause(err)
		}
	}
	var runCtx context.Context
	runCtx, s.cancel = context.WithCancelCause(context.Background())
	for _, sub := range s.cfg.Subs {
		if e, ok := sub.(Ender); ok {
			s.tasks.Go(func() { s.watch(runCtx, e) })
		}
	}
	if s.cfg.Run == nil {
		s.rest(nil)
		return nil
	}
	s.begin(s.newStatus()) // so that there is no moment without one
	s.tasks.Go(func() { s.supervise(runCtx) })
	return nil
}

// Close stops Run, waits for it, calls the hook and closes Subs.
func (s *supervised) Close() error {
	return s.StopOnce(s.cfg.Name, func() (err error) {
		closed := false
		defer func() {
			if !closed { // the hook panicked
				_ = s.subs.Close()
			}
		}()
		s.cancel(ErrStopped)
		s.tasks.Wait()
		err = s.panicked
		if s.cfg.Close != nil {
			err = errors.Join(err, s.cfg.Close())
		}
		closed = true
		if subsErr := s.subs.Close(); subsErr != nil {
			err = errors.Join(err, subsErr)
		}
		return err
	})
}

// Name returns the name of the Config.
func (s *supervised) Name() string { return s.cfg.Name }

// Ready returns nil if the service and all of its parts are ready.
func (s *supervised) Ready() error {
	if err := s.StateMachine.Ready(); err != nil {
		return err
	}
	s.mu.Lock()
	err := s.readiness
	if s.status != nil {
		err = s.status.readiness()
	}
	s.mu.Unlock()
	errs := []error{err}
	for _, sub := range s.cfg.Subs {
		if err := sub.Ready(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", sub.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// HealthReport returns the report of the service and its parts.
func (s *supervised) HealthReport() map[string]error {
	report := map[string]error{s.cfg.Name: s.health()}
	for _, sub := range s.cfg.Subs {
		if sub == nil {
			continue // Start refuses it
		}
		for name, err := range sub.HealthReport() {
			mergeHealth(report, name, err)
		}
	}
	return report
}

func (s *supervised) health() error {
	reported := s.StateMachine.Healthy()
	if s.StateMachine.Ready() != nil {
		return reported
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status != nil {
		return errors.Join(reported, s.status.conditions())
	}
	s.unseen = false
	return errors.Join(reported, s.readiness)
}

// Done implements Ender.
func (s *supervised) Done() <-chan struct{} { return s.ended }

// Err implements Ender.
func (s *supervised) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endErr
}

// end notes that Run or a part has ended by itself. The service has ended with
// the first that failed, or when all are done.
func (s *supervised) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unended == 0 {
		return
	}
	s.unended--
	if err != nil {
		s.endErr = err
		s.unended = 0
	}
	if s.unended == 0 {
		close(s.ended)
	}
}

// watch waits for a part to end by itself.
func (s *supervised) watch(ctx context.Context, sub Ender) {
	select {
	case <-ctx.Done():
	case <-sub.Done():
		s.end(sub.Err())
	}
}
