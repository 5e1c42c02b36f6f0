package services

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"
)

// HealthCheckerConfig is what a [HealthChecker] is made of. The zero value
// gives one with the documented defaults and no metrics.
//
// The hooks tell metrics what the checker sees. They may be nil, are called one
// at a time, and must neither block nor call Register, Unregister, Subscribe,
// Drain, Start or Close of the checker. Package otelcall/otelhealth makes them
// from an OpenTelemetry meter.
type HealthCheckerConfig struct {
	// Ver and Sha are the version and commit of the program. What is empty is
	// taken from the build information; Sha is cut to seven bytes.
	Ver, Sha string
	// Interval is the time between two polls: 15 s if it is not positive.
	Interval time.Duration
	// Timeout is how long a poll waits for the slowest service: 5 s if it is
	// not positive. A service that has not answered by then is reported as not
	// ready and not healthy until it answers.
	Timeout time.Duration
	// WithholdReasons keeps the reasons of failures out of what Handler serves
	// even if the request asks for them, as Kubernetes does.
	WithholdReasons bool

	// IncVersion is called once, by Start.
	IncVersion func(ctx context.Context, ver, sha string)
	// AddUptime is called with the time since its last call, or since Start.
	AddUptime func(ctx context.Context, d time.Duration)
	// SetStatus is called for each name of the health reports each time that
	// they are renewed.
	SetStatus func(ctx context.Context, name string, healthy bool)
	// Delete is called when a name has vanished from the reports.
	Delete func(ctx context.Context, name string)
	// SetHealth is called after SetStatus: whether all names are healthy.
	SetHealth func(ctx context.Context, healthy bool)
}

// New returns an unstarted checker.
func (cfg HealthCheckerConfig) New() *HealthChecker {
	if cfg.Interval <= 0 {
		cfg.Interval = 15 * time.Second
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	cfg.Ver, cfg.Sha = version(cfg.Ver, cfg.Sha)
	return &HealthChecker{
		cfg:    cfg,
		probes: make(map[string]*probe),
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
	}
}

// HealthChecker watches services: it asks each of them regularly whether it is
// ready and healthy, all at the same time, and answers from what it heard.
// Only the checker asks the services, so a scrape costs them nothing and an
// error that is reported once is seen by every reader of the same poll. It is
// made by [NewChecker] or [HealthCheckerConfig.New] and is safe for concurrent
// use.
//
// IsReady and IsHealthy are plain views of the last poll: both are true with no
// errors before the first, and stay as they are after Close. What Handler
// serves, Subscribe tells and package grpchealth says also takes into account
// whether the checker itself runs, and so fails before Start, after Close and
// while draining.
//
// A checker starts without a context, as it waits for nothing but its services;
// Service makes a [Service] of it.
type HealthChecker struct {
	StateMachine

	cfg  HealthCheckerConfig
	stop StopChan
	done chan struct{} // closed when the polling goroutine has ended

	// publishing is held while a change is made known, so that hooks and
	// subscribers hear of changes one at a time and in order. It is taken
	// before mu.
	publishing  sync.Mutex
	subscribers map[*func(HealthStatus)]struct{} // guarded by publishing
	uptimeTold  time.Time                        // guarded by publishing

	mu     sync.Mutex // guards what follows; never held over a foreign call
	probes map[string]*probe
	status HealthStatus
	beat   time.Time // when polling last made progress
	polled bool
}

// HealthStatus is what a [HealthChecker] knows at one moment.
type HealthStatus struct {
	// Running is true from the end of the first poll until Close.
	Running bool
	// Draining is true after Drain.
	Draining bool
	// Ready holds the answers of Ready by the name of the service.
	Ready map[string]error
	// Health holds the merged health reports.
	Health map[string]error
}

// NewChecker returns an unstarted checker with the defaults of
// [HealthCheckerConfig].
func NewChecker(ver, sha string) *HealthChecker {
	return HealthCheckerConfig{Ver: ver, Sha: sha}.New()
}

// checkerName stands for the checker itself in reports.
const checkerName = "HealthCheck"

// IsHealthy returns whether every name of the last health reports is healthy,
// and a copy of them.
func (c *HealthChecker) IsHealthy() (healthy bool, errors map[string]error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return allNil(c.status.Health), copyReport(c.status.Health)
}

// IsReady returns whether every service was ready when it was last asked, and
// a copy of the answers by the names of the services.
func (c *HealthChecker) IsReady() (ready bool, errors map[string]error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return allNil(c.status.Ready), copyReport(c.status.Ready)
}

// Register adds a service. If the checker is started, the service is asked at
// once and Register waits for the answer, at most for the timeout of a poll.
// An empty name is an error. A name that is registered already is a mistake in
// the program, for which Register panics in a test; elsewhere the new service
// takes the place of the old one.
func (c *HealthChecker) Register(service HealthReporter) error {
	if service == nil {
		return fmt.Errorf("misconfigured check: service is nil")
	}
	name := service.Name()
	if name == "" {
		return fmt.Errorf("misconfigured check %q for %v", name, reflect.TypeOf(service))
	}
	if !c.add(name, service, testing.Testing()) {
		// The one documented assertion of tests; programs never come here.
		panic("duplicate name " + fmt.Sprintf("%q", name) + ": service names must be unique")
	}
	return nil
}

// Unregister removes a service and all that was heard from it. A name that is
// not registered is no error, an empty one is.
func (c *HealthChecker) Unregister(name string) error {
	if name == "" {
		return fmt.Errorf("name cannot be empty")
	}
	c.mu.Lock()
	delete(c.probes, name)
	polled := c.polled
	c.mu.Unlock()
	if polled {
		c.publish(nil)
	}
	return nil
}

// Start asks all services once, waits for their answers at most for the
// timeout, and goes on asking in the background until Close.
func (c *HealthChecker) Start() error { return c.start(nil) }

func (c *HealthChecker) start(giveUp <-chan struct{}) error {
	return c.StartOnce(checkerName, func() error {
		if c.stop == nil {
			return errors.New("misconfigured checker: it was not made by NewChecker or HealthCheckerConfig.New")
		}
		if c.cfg.IncVersion != nil {
			c.cfg.IncVersion(context.Background(), c.cfg.Ver, c.cfg.Sha)
		}
		c.publishing.Lock()
		c.uptimeTold = time.Now()
		c.publishing.Unlock()
		c.poll(giveUp)
		go c.run()
		return nil
	})
}

// Close stops the polling and waits for its end, but not for a service that is
// blocked in an answer.
func (c *HealthChecker) Close() error {
	return c.StopOnce(checkerName, func() error {
		close(c.stop)
		<-c.done
		c.publish(func(s *HealthStatus) { s.Running = false })
		c.publishing.Lock()
		c.subscribers, c.uptimeTold = nil, time.Time{}
		c.publishing.Unlock()
		return nil
	})
}

// Drain makes readiness fail from now on, so that no new work is sent here,
// while the services go on with what they have. [Run] calls it first when the
// program shall stop. Health and liveness do not change.
func (c *HealthChecker) Drain() {
	c.publish(func(s *HealthStatus) { s.Draining = true })
}

// Subscribe calls fn at once with the present status and again whenever it was
// renewed, at the end of each poll and between, until the checker is closed or
// unsubscribe has returned. The calls come one at a time. fn must not block,
// must not change the maps, and of the checker's methods may call IsReady and
// IsHealthy.
func (c *HealthChecker) Subscribe(fn func(HealthStatus)) (unsubscribe func()) {
	c.publishing.Lock()
	defer c.publishing.Unlock()
	if c.subscribers == nil {
		c.subscribers = make(map[*func(HealthStatus)]struct{})
	}
	key := &fn
	c.subscribers[key] = struct{}{}
	c.mu.Lock()
	status := c.status
	c.mu.Unlock()
	fn(status)
	return func() {
		c.publishing.Lock()
		defer c.publishing.Unlock()
		delete(c.subscribers, key)
	}
}

// Service returns the checker as a [Service] with the name HealthCheck. Its
// Start fails if the context has ended, and does not wait for the answers of
// services any longer when the context ends.
func (c *HealthChecker) Service() Service { return checkerService{c} }

type checkerService struct{ c *HealthChecker }

func (s checkerService) Start(ctx context.Context) error {
	if err := contextError(ctx); err != nil {
		return err
	}
	return s.c.start(ctx.Done())
}

func (s checkerService) Close() error { return s.c.Close() }
func (s checkerService) Ready() error { return s.c.Ready() }
func (s checkerService) Name() string { return checkerName }
func (s checkerService) HealthReport() map[string]error {
	return map[string]error{checkerName: s.c.Healthy()}
}

// publish applies change, if any, to the status, renews what the status says of
// the services, and tells hooks and subscribers.
func (c *HealthChecker) publish(change func(*HealthStatus)) {
	c.publishing.Lock()
	defer c.publishing.Unlock()

	c.mu.Lock()
	heard := c.heard(time.Now())
	polled := c.polled
	c.mu.Unlock()
	ready, health := merge(heard)

	c.mu.Lock()
	old := c.status.Health
	if change != nil {
		change(&c.status)
	}
	if polled {
		c.status.Ready, c.status.Health = ready, health
	}
	status := c.status
	c.mu.Unlock()

	c.tellHooks(old, status)
	for fn := range c.subscribers {
		(*fn)(status)
	}
}

func (c *HealthChecker) tellHooks(old map[string]error, now HealthStatus) {
	ctx := context.Background()
	if told := c.uptimeTold; c.cfg.AddUptime != nil && !told.IsZero() {
		c.uptimeTold = time.Now()
		if d := c.uptimeTold.Sub(told); d > 0 {
			c.cfg.AddUptime(ctx, d)
		}
	}
	if now.Health == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if _, stays := now.Health[name]; !stays && c.cfg.Delete != nil {
			c.cfg.Delete(ctx, name)
		}
	}
	if c.cfg.SetStatus != nil {
		for _, name := range slices.Sorted(maps.Keys(now.Health)) {
			c.cfg.SetStatus(ctx, name, now.Health[name] == nil)
		}
	}
	if c.cfg.SetHealth != nil {
		c.cfg.SetHealth(ctx, allNil(now.Health))
	}
}

func allNil(report map[string]error) bool {
	for _, err := range report {
		if err != nil {
			return false
		}
	}
	return true
}

// copyReport returns a map also for a nil one.
func copyReport(report map[string]error) map[string]error {
	dest := make(map[string]error, len(report))
	maps.Copy(dest, report)
	return dest
}

func version(ver, sha string) (string, string) {
	if bi, ok := debug.ReadBuildInfo(); ok {
		if ver == "" {
			ver = bi.Main.Version
		}
		if sha == "" {
			sha = bi.Main.Sum
		}
	}
	return ver, sha[:min(len(sha), 7)]
}
