package services_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/reprise-go/reprise/services"
)

// closesBadly starts well and cannot be closed.
type closesBadly string

func (name closesBadly) Start(context.Context) error {
	fmt.Println(name, "started")
	return nil
}

func (name closesBadly) Close() error {
	fmt.Println(name, "close failure")
	return fmt.Errorf("failed to close: %s", name)
}

// behaves starts and closes well.
type behaves string

func (name behaves) Start(context.Context) error {
	fmt.Println(name, "started")
	return nil
}

func (name behaves) Close() error {
	fmt.Println(name, "closed")
	return nil
}

// startsNever cannot be started.
type startsNever string

func (name startsNever) Start(context.Context) error {
	fmt.Println(name, "start failure")
	return fmt.Errorf("failed to start: %s", name)
}

func (name startsNever) Close() error {
	fmt.Println(name, "close failure")
	return fmt.Errorf("cannot call Close after failed Start: %s", name)
}

func ExampleMultiStart_oneFails() {
	ctx := context.Background()
	var ms services.MultiStart
	if err := ms.Start(ctx, behaves("a"), closesBadly("b"), startsNever("c")); err != nil {
		fmt.Println(err)
	}

	// Output:
	// a started
	// b started
	// c start failure
	// b close failure
	// a closed
	// failed to start: c
	// failed to close: b
}

func ExampleMultiCloser_slice() {
	ctx := context.Background()
	f1, f2 := closesBadly("f"), closesBadly("f")
	cs := []closesBadly{f1, f2}
	var ms services.MultiStart
	if err := ms.Start(ctx, f1, f2); err != nil {
		fmt.Println(err)
		return
	}
	mc := services.MultiCloser(cs)
	if err := mc.Close(); err != nil {
		fmt.Println(err)
	}

	// Output:
	// f started
	// f started
	// f close failure
	// f close failure
	// failed to close: f
	// failed to close: f
}

func ExampleCloseAll_mixed() {
	err := services.CloseAll(behaves("file"), closesBadly("socket"))
	fmt.Println(err)

	// Unordered output:
	// file closed
	// socket close failure
	// failed to close: socket
}

// A counter is a service written by hand.
type counter struct {
	services.StateMachine

	stop services.StopChan
	done chan struct{}
	n    int
}

func (c *counter) Start(context.Context) error {
	return c.StartOnce("counter", func() error {
		go func() {
			defer close(c.done)
			<-c.stop // a real one works meanwhile
			c.n = 42
		}()
		return nil
	})
}

func (c *counter) Close() error {
	return c.StopOnce("counter", func() error {
		close(c.stop)
		<-c.done
		return nil
	})
}

func (c *counter) Name() string                   { return "counter" }
func (c *counter) HealthReport() map[string]error { return map[string]error{c.Name(): c.Healthy()} }

func ExampleStateMachine_embedded() {
	c := &counter{stop: make(services.StopChan), done: make(chan struct{})}
	var _ services.Service = c

	fmt.Println(c.State(), "|", c.Ready())
	fmt.Println(c.Start(context.Background()))
	fmt.Println(c.State(), "|", c.Ready())
	fmt.Println(c.Start(context.Background()))
	fmt.Println(c.Close(), c.n)
	fmt.Println(errors.Is(c.Close(), services.ErrAlreadyStopped))

	// Output:
	// Unstarted | service is "Unstarted", not started
	// <nil>
	// Started | <nil>
	// counter has already been started once; state=Started
	// <nil> 42
	// true
}

func ExampleErrorBuffer_newest() {
	var eb services.ErrorBuffer
	eb.SetCap(2)
	for i := range 4 {
		eb.Append(fmt.Errorf("failure %d", i+1))
	}
	fmt.Println(eb.Flush())
	fmt.Println(eb.Flush())

	// Output:
	// failure 3
	// failure 4
	// <nil>
}

func ExampleStopChan_cause() {
	stop := make(services.StopChan)
	ctx, cancel := stop.NewCtx()
	defer cancel()

	go close(stop)
	<-ctx.Done()
	fmt.Println(ctx.Err(), "because", context.Cause(ctx))

	// Output:
	// context canceled because stopped
}
