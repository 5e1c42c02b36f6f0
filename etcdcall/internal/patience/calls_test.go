package patience

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	limit = 16 * time.Second
	span  = limit / 16 // of the beginnings of a cohort's attempts
)

// A path is a way to wait for the end of an attempt.
type path struct {
	name string
	// derive returns what ends with a.
	derive func(a *Attempt) (context.Context, context.CancelFunc)
	// direct says that the attempt needs no context of its own for it.
	direct bool
}

type valueKey struct{}

// wrapper asks the attempt in everything, and passes AfterFunc on.
type wrapper struct{ context.Context }

func (w wrapper) Value(key any) any { return w.Context.Value(key) }

func (w wrapper) AfterFunc(f func()) (stop func() bool) {
	return w.Context.(*Attempt).AfterFunc(f)
}

func paths() []path {
	return []path{
		{name: "Done", derive: func(a *Attempt) (context.Context, context.CancelFunc) {
			a.Done()
			return a, func() {}
		}},
		{name: "derived", derive: func(a *Attempt) (context.Context, context.CancelFunc) {
			return context.WithCancel(a)
		}},
		{name: "derived from a value", derive: func(a *Attempt) (context.Context, context.CancelFunc) {
			return context.WithCancel(context.WithValue(a, valueKey{}, "other"))
		}},
		{name: "direct", direct: true, derive: func(a *Attempt) (context.Context, context.CancelFunc) {
			a.Direct()
			return context.WithCancel(a)
		}},
		{name: "direct with a deadline", direct: true, derive: func(a *Attempt) (context.Context, context.CancelFunc) {
			a.Direct()
			return context.WithTimeout(a, 3*time.Hour)
		}},
		{name: "direct from a wrapper", direct: true, derive: func(a *Attempt) (context.Context, context.CancelFunc) {
			a.Direct()
			return context.WithCancel(wrapper{a})
		}},
	}
}

// foreign is a context of a type that package context does not know, around one that it
// does, with another end.
type foreign struct {
	context.Context

	done chan struct{}
	mu   sync.Mutex
	err  error
}

var errForeign = errors.New("foreign")

func newForeign() *foreign {
	around, cancel := context.WithCancel(context.WithValue(context.Background(), valueKey{}, "value"))
	_ = cancel
	return &foreign{Context: around, done: make(chan struct{})}
}

func (f *foreign) Done() <-chan struct{} { return f.done }

func (f *foreign) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *foreign) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = errForeign
	close(f.done)
}

// counted is a foreign context that counts who listens for its end.
type counted struct {
	*foreign

	mu        sync.Mutex
	listeners int
}

func (c *counted) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listeners++
	stopListening := context.AfterFunc(c.foreign, f)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.listeners--
		return stopListening()
	}
}

// A call is the context of a call, which end ends.
type call struct {
	ctx        context.Context
	end        func() // nil if it cannot end
	err, cause error  // thereafter
}

var errCause = errors.New("cause")

// calls are made anew for each test, by name.
func calls() map[string]func() call {
	value := context.WithValue(context.Background(), valueKey{}, "value")
	return map[string]func() call{
		"endless": func() call { return call{ctx: value} },
		"cancelled": func() call {
			ctx, cancel := context.WithCancelCause(value)
			return call{ctx, func() { cancel(errCause) }, context.Canceled, errCause}
		},
		"with a deadline": func() call {
			ctx, cancel := context.WithDeadlineCause(value, time.Now().Add(time.Hour), errCause)
			_ = cancel
			return call{ctx, func() { time.Sleep(time.Until(deadline(ctx))) }, context.DeadlineExceeded, errCause}
		},
		"foreign": func() call {
			ctx := newForeign()
			return call{ctx, ctx.end, errForeign, errForeign}
		},
		"an attempt of another patience": func() call {
			ctx, cancel := context.WithCancelCause(value)
			return call{New(2*time.Hour).Begin(ctx, new(Attempt)), func() { cancel(errCause) }, context.Canceled, errCause}
		},
	}
}

func deadline(ctx context.Context) time.Time {
	until, _ := ctx.Deadline()
	return until
}

// forAll runs test for all calls and paths.
func forAll(t *testing.T, test func(t *testing.T, c call, by path)) {
	t.Helper()
	for name, newCall := range calls() {
		for _, by := range paths() {
			t.Run(name+"/"+by.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					c := newCall()
					test(t, c, by)
					if c.end != nil && c.ctx.Err() == nil {
						c.end()
					}
				})
			})
		}
	}
}

// listed counts the attempts of c, and the ends of calls that it listens for.
func (c *cohort) listed() (attempts, callers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a := c.rest.first; a != nil; a = a.next {
		attempts++
	}
	for s := c.callers; s != nil; s = s.next {
		callers++
		for a := s.first; a != nil; a = a.next {
			attempts++
		}
	}
	return attempts, callers
}

func checkListed(t *testing.T, when string, c *cohort, attempts, callers int) {
	t.Helper()
	if a, s := c.listed(); a != attempts || s != callers {
		t.Errorf("%s: %d attempts and %d ends of calls are listed, want %d and %d", when, a, s, attempts, callers)
	}
}
