package services

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// RunConfig says how [Run] stops a program. The zero value is ready for use.
type RunConfig struct {
	// Checker watches the services: those that it does not know are
	// registered. If it is not started yet, Run starts it first and closes it
	// last. It may be nil.
	Checker *HealthChecker
	// Signals are those that stop the program: os.Interrupt and SIGTERM if nil,
	// none if empty.
	Signals []os.Signal
	// Drain is how long the services go on after readiness has begun to fail,
	// so that whoever sends work can notice. Zero means not at all.
	Drain time.Duration
	// Timeout bounds the closing of all services together, after the drain: 30
	// s if zero, no bound if negative.
	Timeout time.Duration
	// OnStop is called once when the program begins to stop, with the reason:
	// a *SignalError, the cause of ctx, or what a service ended with. It may be
	// nil.
	OnStop func(reason error)
}

// SignalError is the reason of a stop by a signal.
type SignalError struct{ Signal os.Signal }

// Error names the signal.
func (e *SignalError) Error() string { return "received signal: " + e.Signal.String() }

// UnstoppedError names the services that were not closed when [Run] returned.
type UnstoppedError struct {
	// Names are in the order of closing: the first is the one that did not
	// return, those after it were not reached.
	Names []string
	// Reason is a *SignalError after a second signal and otherwise matches
	// context.DeadlineExceeded.
	Reason error
}

// Error says the reason and the names.
func (e *UnstoppedError) Error() string {
	return fmt.Sprintf("not stopped: %s (%v)", strings.Join(e.Names, ", "), e.Reason)
}

// Unwrap returns the reason.
func (e *UnstoppedError) Unwrap() error { return e.Reason }

// Run is the life of a program made of services. It starts them in order and
// waits until a signal arrives, ctx ends, or a service that implements [Ender]
// ends with an error. Then it lets the readiness of the checker fail, waits for
// the drain, and closes the services in reverse order.
//
// It returns nil if the stop was asked for, by a signal or by ctx, and all went
// well, so that main can exit with 0. Otherwise the error joins what went wrong:
// the service that could not be started or that gave up, what Close of each
// returned, and an [*UnstoppedError] if not all services were closed in time. A
// second signal makes Run return at once, without closing anything further.
//
// If a service cannot be started, those before it are closed without a drain.
// A service whose Start or Close has not returned when Run returns goes on in
// its goroutine; the program should exit then.
func Run(ctx context.Context, cfg RunConfig, srvcs ...Service) error {
	if ctx == nil {
		return errNilContext
	}
	if i := slices.Index(srvcs, nil); i >= 0 {
		return fmt.Errorf("service %d of %d is nil", i+1, len(srvcs))
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Signals == nil {
		cfg.Signals = []os.Signal{os.Interrupt, syscall.SIGTERM}
	}
	p := &program{cfg: cfg, services: srvcs}
	p.running, p.stop = context.WithCancelCause(ctx)
	p.unforced, p.force = context.WithCancelCause(context.WithoutCancel(ctx))
	defer p.tasks.Wait()
	defer p.force(nil)
	defer p.stop(nil)
	if len(cfg.Signals) > 0 {
		signals := make(chan os.Signal, 2)
		signal.Notify(signals, cfg.Signals...)
		defer signal.Stop(signals)
		p.tasks.Go(func() { p.listen(signals) })
	}
	return p.run()
}
