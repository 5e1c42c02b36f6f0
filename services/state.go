package services

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

var (
	// ErrAlreadyStopped is matched by the error of a second StopOnce.
	ErrAlreadyStopped = errors.New("already stopped")
	// ErrCannotStopUnstarted is matched by the error of a StopOnce before any
	// StartOnce.
	ErrCannotStopUnstarted = errors.New("cannot stop unstarted service")
	// ErrNotStarted is matched by the errors of Ready and Healthy in every
	// state but Started.
	ErrNotStarted = errors.New("not started")
)

// StateMachine is the life of a service: started once, stopped once. It is
// meant to be embedded. The zero value is an unstarted service; it must not be
// copied after first use, and is safe for concurrent use.
//
// The write lock is held while a function given to StartOnce or StopOnce runs,
// the read lock while one given to IfStarted or IfNotStopped runs. So StopOnce
// waits for those, and none of the four may be called from within a function
// given to another: that would be a deadlock. Ready, Healthy and State take no
// lock and may be called from anywhere.
type StateMachine struct {
	sync.RWMutex

	// SvcErrBuffer collects errors of the running service, which Healthy
	// reports once. It keeps the 50 newest, unless SetCap said otherwise.
	SvcErrBuffer ErrorBuffer

	state atomic.Int32
	// start is set by the one StartOnce that runs its function. Its channel is
	// closed when the outcome is known, so that StopOnce can wait for a start
	// that has begun but does not hold the lock yet.
	start atomic.Pointer[chan struct{}]
}

// defaultErrorBufferCap bounds what a service that nobody asks for its health
// keeps in memory.
const defaultErrorBufferCap = 50

// StartOnce runs fn and returns its error, if the service was never started.
// The state is Starting while fn runs, then Started, or StartFailed if fn
// returned an error, panicked or ended its goroutine; a panic goes on to the
// caller. In any other state than Unstarted it returns an error at once,
// without waiting for a start or a stop that is under way.
func (once *StateMachine) StartOnce(name string, fn func() error) error {
	decided := make(chan struct{})
	if !once.start.CompareAndSwap(nil, &decided) {
		st := once.loadState()
		if st == stateUnstarted { // claimed a moment ago
			st = stateStarting
		}
		return fmt.Errorf("%s has already been started once; state=%s", name, st)
	}
	once.state.Store(int32(stateStarting))
	once.SvcErrBuffer.setDefaultCap(defaultErrorBufferCap)

	defer close(decided)
	once.Lock()
	defer once.Unlock()
	return once.settle(stateStarted, stateStartFailed, fn)
}

// StopOnce runs fn and returns its error, if the service is started. It waits
// for a start or a stop that is under way and for functions given to IfStarted
// and IfNotStopped. The state is Stopping while fn runs, then Stopped, or
// StopFailed if fn returned an error, panicked or ended its goroutine; a panic
// goes on to the caller.
//
// The error matches [ErrCannotStopUnstarted] if the service was never started
// and [ErrAlreadyStopped] if it was stopped before. A service whose start or
// stop failed cannot be stopped.
func (once *StateMachine) StopOnce(name string, fn func() error) error {
	once.lockUnlessStarting()
	defer once.Unlock()
	switch st := once.loadState(); st {
	case stateUnstarted:
		return fmt.Errorf("%s has not been started: %w", name, ErrCannotStopUnstarted)
	case stateStopped:
		return fmt.Errorf("%s has already been stopped: %w", name, ErrAlreadyStopped)
	case stateStarted:
		once.state.Store(int32(stateStopping))
		return once.settle(stateStopped, stateStopFailed, fn)
	default:
		return fmt.Errorf("%s cannot be stopped from this state; state=%s", name, st)
	}
}

// IfStarted runs f and returns true if the service is started; otherwise it
// returns false. The service is not stopped before f has returned.
func (once *StateMachine) IfStarted(f func()) (ok bool) {
	once.RLock()
	defer once.RUnlock()
	if once.loadState() != stateStarted {
		return false
	}
	f()
	return true
}

// IfNotStopped runs f and returns true in any state but Stopped; StopFailed is
// not Stopped. The state does not change before f has returned.
func (once *StateMachine) IfNotStopped(f func()) (ok bool) {
	once.RLock()
	defer once.RUnlock()
	if once.loadState() == stateStopped {
		return false
	}
	f()
	return true
}

// Ready returns nil if the service is started, and otherwise an error that
// matches [ErrNotStarted] and says the state.
func (once *StateMachine) Ready() error {
	if st := once.loadState(); st != stateStarted {
		return &notStartedError{state: st}
	}
	return nil
}

// Healthy returns an error that matches [ErrNotStarted] if the service is not
// started, and otherwise what has gathered in SvcErrBuffer, which it empties:
// of two callers, one sees an error. Let one place ask, such as a
// [HealthChecker], and read from there.
func (once *StateMachine) Healthy() error {
	if st := once.loadState(); st != stateStarted {
		return &notStartedError{state: st}
	}
	return once.SvcErrBuffer.Flush()
}

// State returns the name of the present state: Unstarted, Starting, Started,
// StartFailed, Stopping, Stopped or StopFailed.
func (once *StateMachine) State() string { return once.loadState().String() }

func (once *StateMachine) loadState() state { return state(once.state.Load()) }

// lockUnlessStarting takes the write lock at a moment when no start is under
// way. A start claims itself before it takes the lock; whoever comes between
// gives the lock back and waits for the outcome.
func (once *StateMachine) lockUnlessStarting() {
	for {
		once.Lock()
		decided := once.start.Load()
		st := once.loadState()
		if decided == nil || (st != stateUnstarted && st != stateStarting) {
			return
		}
		once.Unlock()
		<-*decided
	}
}

// settle runs fn and enters the state that its outcome asks for, also if fn
// does not return.
func (once *StateMachine) settle(success, failure state, fn func() error) error {
	next := failure
	defer func() { once.state.Store(int32(next)) }()
	if fn == nil {
		return errNilFunc
	}
	if err := fn(); err != nil {
		return err
	}
	next = success
	return nil
}

var errNilFunc = errors.New("the function to run is nil")

type state int32

const (
	stateUnstarted state = iota
	stateStarted
	stateStarting
	stateStartFailed
	stateStopping
	stateStopped
	stateStopFailed
)

func (s state) String() string {
	switch s {
	case stateUnstarted:
		return "Unstarted"
	case stateStarted:
		return "Started"
	case stateStarting:
		return "Starting"
	case stateStartFailed:
		return "StartFailed"
	case stateStopping:
		return "Stopping"
	case stateStopped:
		return "Stopped"
	case stateStopFailed:
		return "StopFailed"
	default:
		return fmt.Sprintf("unrecognized state: %d", int32(s))
	}
}

type notStartedError struct{ state state }

func (e *notStartedError) Error() string {
	return fmt.Sprintf("service is %q, %v", e.state, ErrNotStarted)
}

func (*notStartedError) Is(target error) bool { return target == ErrNotStarted }
