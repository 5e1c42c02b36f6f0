package services

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Status is how the Run of a [Config] tells how it is doing. Each call of Run
// has its own, which begins clean and is forgotten when the call returns: what
// a goroutine left behind says through an old one is ignored. It is safe for
// concurrent use.
type Status struct {
	report func(error)

	mu    sync.Mutex
	over  bool
	ready error
	conds map[string]error
}

var errNotReadyYet = errors.New("not ready yet")

// Ready says whether the service can do its work now: nil if so, else why not.
// It holds until the next call.
func (s *Status) Ready(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = err
}

// Set sets a condition that makes the service unhealthy until it is cleared by
// Set with a nil error. Conditions of different names stand beside each other.
func (s *Status) Set(cond string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.conds, cond)
		return
	}
	if s.conds == nil {
		s.conds = make(map[string]error)
	}
	s.conds[cond] = err
}

// Report makes the next health report hold err, and only that one. At most 50
// errors wait for a report; the oldest are dropped. A nil err is ignored.
func (s *Status) Report(err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.report(err)
	}
}

// end makes everything that is said from now on count for nothing.
func (s *Status) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

func (s *Status) readiness() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

// conditions joins the conditions in the order of their names.
func (s *Status) conditions() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, cond := range slices.Sorted(maps.Keys(s.conds)) {
		errs = append(errs, fmt.Errorf("%s: %w", cond, s.conds[cond]))
	}
	return errors.Join(errs...)
}
