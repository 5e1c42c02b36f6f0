package services

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/reprise-go/reprise"
)

// program is one call of Run.
type program struct {
	cfg      RunConfig
	services []Service

	running  context.Context // ends when the program shall stop
	stop     context.CancelCauseFunc
	unforced context.Context // ends when it shall stop at once
	force    context.CancelCauseFunc
	tasks    sync.WaitGroup
}

// endedError is the reason of a stop because a service ended by itself.
type endedError struct {
	name string
	err  error
}

func (e *endedError) Error() string { return fmt.Sprintf("service %s ended: %v", e.name, e.err) }
func (e *endedError) Unwrap() error { return e.err }

func (p *program) run() error {
	checks := p.cfg.Checker
	if checks != nil {
		if err := p.check(checks); err != nil {
			return err
		}
	}
	started, err := p.start()
	complete := len(started) == len(p.services)
	if complete {
		if checks != nil {
			checks.poll(p.running.Done()) // the services have started since
		}
		<-p.running.Done()
	}

	reason := err
	if reason == nil {
		reason = context.Cause(p.running)
		if ended := (*endedError)(nil); errors.As(reason, &ended) {
			err = ended
		}
	}
	if checks != nil {
		checks.Drain()
	}
	if p.cfg.OnStop != nil {
		p.cfg.OnStop(reason)
	}
	if complete {
		_ = reprise.Sleep(p.unforced, p.cfg.Drain) // a second signal cuts it short
	}
	if closeErr := p.close(started); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	return err
}

// listen turns the first signal into a stop and the second into an end at
// once. A signal after a stop for another reason is a first one: whoever
// cancels ctx on a signal sends both.
func (p *program) listen(signals <-chan os.Signal) {
	for _, act := range []context.CancelCauseFunc{p.stop, p.force} {
		select {
		case sig := <-signals:
			act(&SignalError{Signal: sig})
		case <-p.unforced.Done():
			return
		}
	}
}

// check makes the checker know the services, and start first unless somebody
// else starts it.
func (p *program) check(c *HealthChecker) error {
	listed := false
	for _, s := range p.services {
		if s == c.Service() {
			listed = true
			continue
		}
		if err := c.registerUnknown(s); err != nil {
			return err
		}
	}
	if !listed && c.loadState() == stateUnstarted {
		p.services = slices.Insert(slices.Clone(p.services), 0, c.Service())
	}
	return nil
}

// start starts the services in order until one fails or the program shall
// stop. It returns those that it started, and the failure.
func (p *program) start() (started []Service, err error) {
	for _, s := range p.services {
		if p.running.Err() != nil {
			return started, nil //nolint:nilerr // the start was interrupted, as asked
		}
		done := async(func() error { return s.Start(p.running) })
		select {
		case err = <-done:
		case <-p.running.Done():
			if err = p.await(done, s); errors.As(err, new(*UnstoppedError)) {
				return started, err
			}
		}
		switch {
		case err == nil:
			started = append(started, s)
			if e, ok := s.(Ender); ok {
				p.tasks.Go(func() { p.watch(s.Name(), e) })
			}
		case p.running.Err() != nil && errors.Is(err, p.running.Err()):
			return started, nil
		default:
			return started, fmt.Errorf("%s: %w", s.Name(), err)
		}
	}
	return started, nil
}

// watch stops the program if a service ends with an error.
func (p *program) watch(name string, s Ender) {
	select {
	case <-p.running.Done():
	case <-s.Done():
		if err := s.Err(); err != nil {
			p.stop(&endedError{name: name, err: err})
		}
	}
}

// await waits for the end of a Start that was asked to stop.
func (p *program) await(done <-chan error, s Service) error {
	limit, cancel := p.limit()
	defer cancel()
	select {
	case err := <-done:
		return err
	case <-limit.Done():
		return unstopped(limit, s)
	}
}

// close closes the services in reverse order within the time limit.
func (p *program) close(started []Service) error {
	limit, cancel := p.limit()
	defer cancel()
	var errs []error
	for i, s := range slices.Backward(started) {
		if limit.Err() == nil {
			done := async(s.Close)
			select {
			case err := <-done:
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", s.Name(), err))
				}
				continue
			case <-limit.Done():
			}
		}
		left := slices.Clone(started[:i+1])
		slices.Reverse(left)
		errs = append(errs, unstopped(limit, left...))
		break
	}
	return errors.Join(errs...)
}

// limit returns a context that ends when time is up or a second signal came.
func (p *program) limit() (context.Context, context.CancelFunc) {
	if p.cfg.Timeout < 0 {
		return context.WithCancel(p.unforced)
	}
	return context.WithTimeoutCause(p.unforced, p.cfg.Timeout,
		fmt.Errorf("%w: %v were given", context.DeadlineExceeded, p.cfg.Timeout))
}

func unstopped(limit context.Context, left ...Service) error {
	e := &UnstoppedError{Reason: context.Cause(limit)}
	for _, s := range left {
		e.Names = append(e.Names, s.Name())
	}
	return e
}

// async runs fn in a goroutine of its own and delivers its error, also if fn
// does not return.
func async(fn func() error) <-chan error {
	done := make(chan error, 1)
	go func() {
		err := errUnreturned
		defer func() { done <- err }()
		err = protect(fn)
	}()
	return done
}
