package services

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A probe is what a HealthChecker knows of one service. Its fields are guarded
// by the checker's mu.
type probe struct {
	service HealthReporter

	asked   chan struct{} // closed when the present question is answered; nil without one
	askedAt time.Time

	answered bool
	ready    error
	report   map[string]error
}

// run polls until the checker is closed.
func (c *HealthChecker) run() {
	defer close(c.done)
	ticker := time.NewTicker(c.cfg.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-ticker.C:
			c.poll(nil)
		}
	}
}

// poll asks all services that do not owe an answer from before, and waits for
// their answers up to the timeout or the end of the checker, and no longer once
// giveUp is closed.
func (c *HealthChecker) poll(giveUp <-chan struct{}) {
	c.mu.Lock()
	c.polled = true // from here on, Register asks for itself
	c.beat = time.Now()
	var asked []<-chan struct{}
	for name, p := range c.probes {
		if p.asked == nil {
			asked = append(asked, c.ask(name, p))
		}
	}
	c.mu.Unlock()

	c.await(giveUp, asked...)
	c.publish(func(s *HealthStatus) {
		s.Running = true
		c.beat = time.Now()
	})
}

// registerUnknown is Register, unless the name is registered.
func (c *HealthChecker) registerUnknown(service HealthReporter) error {
	name := service.Name()
	c.mu.Lock()
	_, known := c.probes[name]
	c.mu.Unlock()
	if known {
		return nil
	}
	return c.Register(service)
}

// add registers a service and, if the checker polls, waits for its first
// answer. It returns false if the name is taken and must be free.
func (c *HealthChecker) add(name string, service HealthReporter, mustBeFree bool) bool {
	c.mu.Lock()
	if _, taken := c.probes[name]; taken && mustBeFree {
		c.mu.Unlock()
		return false
	}
	p := &probe{service: service}
	c.probes[name] = p
	if !c.polled || c.stopped() {
		c.mu.Unlock()
		return true
	}
	answered := c.ask(name, p)
	c.mu.Unlock()

	c.await(nil, answered)
	c.publish(nil)
	return true
}

// ask puts the question to a service in a goroutine of its own. It is called
// with mu held.
func (c *HealthChecker) ask(name string, p *probe) <-chan struct{} {
	answered := make(chan struct{})
	p.asked, p.askedAt = answered, time.Now()
	go func() {
		ready, report := errUnreturned, map[string]error{name: errUnreturned}
		defer func() { // runs also if the service ends the goroutine
			c.mu.Lock()
			late := c.overdue(p, time.Now())
			p.asked, p.answered, p.ready, p.report = nil, true, ready, report
			c.mu.Unlock()
			close(answered)
			if late && !c.stopped() {
				c.publish(nil) // the poll that asked has not waited
			}
		}()
		err := protect(func() error {
			r, h := p.service.Ready(), p.service.HealthReport()
			ready, report = r, maps.Clone(h)
			return nil
		})
		if err != nil {
			ready, report = err, map[string]error{name: err}
		}
	}()
	return answered
}

// await waits for answers up to the timeout or the end of the checker, and no
// longer once giveUp is closed.
func (c *HealthChecker) await(giveUp <-chan struct{}, answers ...<-chan struct{}) {
	timeout := time.NewTimer(c.cfg.Timeout)
	defer timeout.Stop()
	for _, answered := range answers {
		select {
		case <-answered:
		case <-timeout.C:
			return
		case <-c.stop:
			return
		case <-giveUp:
			return
		}
	}
}

var errNotAsked = errors.New("has not answered yet")

// heard is what a service said, or the error of not having said it.
type heard struct {
	name   string
	ready  error
	report map[string]error
}

// heard returns the last answer of each service, by name. It is called with mu
// held.
func (c *HealthChecker) heard(now time.Time) []heard {
	all := make([]heard, 0, len(c.probes))
	for _, name := range slices.Sorted(maps.Keys(c.probes)) {
		p := c.probes[name]
		switch {
		case c.overdue(p, now):
			err := fmt.Errorf("has not answered for %v", now.Sub(p.askedAt).Round(time.Millisecond))
			all = append(all, heard{name, err, map[string]error{name: err}})
			fallthrough // what was known of its parts stays
		case p.answered:
			all = append(all, heard{name, p.ready, p.report})
		default:
			all = append(all, heard{name, errNotAsked, map[string]error{name: errNotAsked}})
		}
	}
	return all
}

// merge makes one report of what the services said. Of several answers under
// one name, each failure stays.
func merge(all []heard) (ready, health map[string]error) {
	ready = make(map[string]error, len(all))
	health = make(map[string]error, len(all))
	for _, h := range all {
		mergeHealth(ready, h.name, h.ready)
		for key, err := range h.report {
			mergeHealth(health, key, err)
		}
	}
	return ready, health
}

// overdue reports whether a service owes an answer for as long as a poll waits.
// It is called with mu held.
func (c *HealthChecker) overdue(p *probe, now time.Time) bool {
	return p.asked != nil && now.Sub(p.askedAt) >= c.cfg.Timeout
}

// stopped reports whether Close has begun.
func (c *HealthChecker) stopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// self returns nil if the checker runs, and otherwise why its status cannot be
// trusted.
func (c *HealthChecker) self() error {
	st := c.loadState()
	c.mu.Lock()
	beat := c.beat
	c.mu.Unlock()
	if (st != stateStarted && st != stateStarting) || beat.IsZero() {
		return &notStartedError{state: st}
	}
	age := time.Since(beat)
	if limit := 3*c.cfg.Interval + c.cfg.Timeout; age > limit {
		return fmt.Errorf("the last poll was %v ago", age.Round(time.Millisecond))
	}
	return nil
}
