package services

import (
	"context"
	"io"
)

// Service is a long-running part of a program. Most are made by [New], or by
// hand on top of a [StateMachine].
type Service interface {
	StartClose
	HealthReporter
}

// StartClose is the part of a [Service] that [MultiStart] needs.
type StartClose interface {
	// Start brings the service up and returns; what runs long runs in
	// goroutines of its own. It must return promptly when ctx ends, must not
	// keep ctx after it has returned, and must not wait for anything outside
	// of the process: a service that cannot reach its database starts and is
	// not ready.
	Start(ctx context.Context) error
	// Close stops the service and waits until it has stopped. A closed service
	// cannot be started again; make a new one.
	io.Closer
}

// HealthReporter is implemented by what a [HealthChecker] can watch.
type HealthReporter interface {
	// Ready returns nil if the service can do its work now, and otherwise an
	// error that says why not.
	Ready() error
	// HealthReport returns the health of the service and of what it is made
	// of: by name, nil if healthy and an error if not. [CopyHealth] collects
	// the reports of parts.
	HealthReport() map[string]error
	// Name returns the full name of the service, as it shall stand in reports.
	Name() string
}

// Ender is implemented by services that may end before they are closed; those
// made by [New] do. [Run] stops the program when one ends with an error.
type Ender interface {
	// Done returns a channel that is closed when the service has ended by
	// itself.
	Done() <-chan struct{}
	// Err returns nil until Done is closed, and then why the service ended:
	// nil if its work was done, an error that matches [ErrGaveUp] if it was
	// given up.
	Err() error
}
