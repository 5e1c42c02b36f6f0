// Package servicetest runs services in tests. It uses nothing but the standard
// library and package services.
package servicetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/reprise-go/reprise/services"
)

// TB is the part of [testing.TB] that this package needs. Fatalf is called from
// the goroutine that called Run or RunHealthy, and Errorf only from Cleanup.
type TB interface {
	Helper()
	Cleanup(fn func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Run starts a service, returns it, and closes it when the test ends. The test
// fails if it cannot be started or closed. The context of Start is cancelled
// when Start has returned, so that a service that keeps it is found out.
func Run[S services.StartClose](tb TB, s S) S {
	tb.Helper()
	start(tb, s)
	return s
}

// RunHealthy is [Run] for a test in which the service must do well: it looks
// at it every 100 ms until the test ends and once more then. The test fails if
// the service was never ready or if any look found it unhealthy after it had
// been ready for the first time.
//
// The looks consume what the service reports once, so nothing else should ask
// for its health meanwhile.
func RunHealthy[S services.Service](tb TB, s S) S {
	tb.Helper()
	if !start(tb, s) {
		return s
	}
	var (
		l       = &looks{service: s}
		stop    = make(chan struct{})
		looking sync.WaitGroup
	)
	looking.Go(func() { l.until(stop) })
	tb.Cleanup(func() { // before the closing
		tb.Helper()
		close(stop)
		looking.Wait()
		l.judge(tb)
	})
	return s
}

// start returns false if the service could not be started, for a Fatalf that
// returns.
func start(tb TB, s services.StartClose) bool {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	err := s.Start(ctx)
	cancel()
	if err != nil {
		tb.Fatalf("the service could not be started: %v", err)
		return false
	}
	tb.Cleanup(func() {
		tb.Helper()
		if err := s.Close(); err != nil {
			tb.Errorf("the service could not be closed: %v", err)
		}
	})
	return true
}

// looks is what was seen of a service.
type looks struct {
	service services.Service
	ready   bool
	unready error // the last reason of not being ready
	errs    []error
}

const every = 100 * time.Millisecond

func (l *looks) until(stop <-chan struct{}) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		l.look()
		select {
		case <-ticker.C:
		case <-stop:
			l.look()
			return
		}
	}
}

func (l *looks) look() {
	l.unready = l.service.Ready()
	l.ready = l.ready || l.unready == nil
	if !l.ready {
		return
	}
	for name, err := range l.service.HealthReport() {
		if err != nil {
			l.errs = append(l.errs, fmt.Errorf("%s: %w", name, err))
		}
	}
}

func (l *looks) judge(tb TB) {
	tb.Helper()
	if !l.ready {
		tb.Errorf("%s was never ready: %v", l.service.Name(), l.unready)
	}
	if err := errors.Join(l.errs...); err != nil {
		tb.Errorf("%s was unhealthy: %v", l.service.Name(), err)
	}
}
