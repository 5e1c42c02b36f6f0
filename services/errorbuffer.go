package services

import (
	"errors"
	"sync"
)

// ErrorBuffer keeps the newest errors of a service until they are flushed as
// one. The zero value keeps all of them. It is safe for concurrent use.
type ErrorBuffer struct {
	mu     sync.Mutex
	buffer []error
	cap    int  // 0: no limit
	capSet bool // by SetCap
}

// Append adds an error; at the cap, the oldest one is dropped. A nil error
// takes a place too and adds nothing to what Flush returns.
func (eb *ErrorBuffer) Append(incoming error) {
	eb.mu.Lock()
	defer eb.mu.Unlock()
	eb.buffer = append(eb.buffer, incoming)
	eb.trim()
}

// Flush returns the errors in the order in which they came, joined as by
// [errors.Join], and empties the buffer. It returns nil if there is none.
func (eb *ErrorBuffer) Flush() (err error) {
	eb.mu.Lock()
	errs := eb.buffer
	eb.buffer = nil
	eb.mu.Unlock()
	return errors.Join(errs...)
}

// SetCap sets how many errors are kept and drops the oldest that are too many.
// With 0 or less the buffer is emptied and has no limit from then on.
func (eb *ErrorBuffer) SetCap(cap int) {
	eb.mu.Lock()
	defer eb.mu.Unlock()
	eb.capSet = true
	eb.cap = max(cap, 0)
	if eb.cap == 0 {
		eb.buffer = nil
	}
	eb.trim()
}

// setDefaultCap is SetCap, unless that was called before.
func (eb *ErrorBuffer) setDefaultCap(cap int) {
	eb.mu.Lock()
	defer eb.mu.Unlock()
	if !eb.capSet {
		eb.cap = cap
		eb.trim()
	}
}

func (eb *ErrorBuffer) trim() {
	drop := len(eb.buffer) - eb.cap
	if eb.cap == 0 || drop <= 0 {
		return
	}
	clear(eb.buffer[:drop]) // the array may live on
	eb.buffer = eb.buffer[drop:]
}
