package services_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/services"
)

// A feeder loses its connection twice and is restarted under the same kind of
// policy that would retry a call.
func ExampleNew() {
	runs := 0
	feeder := services.New(services.Config{
		Name: "feeder",
		Run: func(ctx context.Context, status *services.Status) error {
			runs++
			if runs < 3 {
				return errors.New("connection lost")
			}
			status.Ready(nil)
			<-ctx.Done() // works until it is stopped
			return nil
		},
		ManualReady: true,
		Restart: func() reprise.Retryer {
			return reprise.OnErrorFunc(
				reprise.Backoff{Initial: time.Millisecond, Multiplier: 3, Jitter: reprise.JitterNone},
				func(error) bool { return true })
		},
		OnEvent: func(e services.Event) {
			fmt.Printf("%s %v after run %d: %v; next in %v\n", e.Service, e.Kind, e.Attempt, e.Err, max(e.Pause, 0))
		},
	})
	if err := feeder.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	for feeder.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(feeder.Close())

	// Output:
	// feeder restarting after run 1: connection lost; next in 1ms
	// feeder restarting after run 2: connection lost; next in 3ms
	// feeder stopped after run 3: <nil>; next in 0s
	// <nil>
}

// A service that is not worth another try ends with a typed error, which stops
// the program under Run.
func ExampleGaveUpError() {
	errConfig := errors.New("no such topic")
	consumer := services.New(services.Config{
		Name: "consumer",
		Run:  func(context.Context, *services.Status) error { return errConfig },
		Restart: func() reprise.Retryer {
			return reprise.OnErrorFunc(reprise.Backoff{}, func(err error) bool { return !errors.Is(err, errConfig) })
		},
	})
	err := services.Run(context.Background(), services.RunConfig{}, consumer)
	if gaveUp, ok := errors.AsType[*services.GaveUpError](err); ok {
		fmt.Println(gaveUp.Service, "|", gaveUp.Attempt, "|", gaveUp.Err)
	}

	// Output:
	// consumer | 1 | no such topic
}

// Conditions hold until they are cleared; what is reported is seen once.
func ExampleStatus() {
	told := make(chan struct{})
	cache := services.New(services.Config{
		Name: "cache",
		Run: func(ctx context.Context, status *services.Status) error {
			status.Ready(errors.New("filling"))
			status.Set("stale", errors.New("nothing heard for 10s"))
			status.Report(errors.New("one entry could not be decoded"))
			close(told)
			<-ctx.Done()
			return nil
		},
	})
	if err := cache.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	<-told
	fmt.Println("ready:", cache.Ready())
	fmt.Println(cache.HealthReport()["cache"])
	fmt.Println(cache.HealthReport()["cache"])
	if err := cache.Close(); err != nil {
		fmt.Println(err)
	}

	// Output:
	// ready: filling
	// one entry could not be decoded
	// stale: nothing heard for 10s
	// stale: nothing heard for 10s
}

func ExampleHealthChecker_Handler() {
	checker := services.NewChecker("v1.0.0", "0123abc")
	db := services.New(services.Config{Name: "db", ManualReady: true, Run: func(ctx context.Context, _ *services.Status) error {
		<-ctx.Done() // never gets ready
		return nil
	}})
	if err := errors.Join(db.Start(context.Background()), checker.Register(db), checker.Start()); err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(checker.Handler())
	for _, path := range []string{"/livez", "/readyz", "/readyz?verbose"} {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		fmt.Printf("%s: %d\n%s\n", path, resp.StatusCode, body)
	}
	server.Close()
	if err := errors.Join(checker.Close(), db.Close()); err != nil {
		fmt.Println(err)
	}

	// Output:
	// /livez: 200
	// ok
	// /readyz: 503
	// [+]HealthCheck ok
	// [-]db failed: reason withheld
	// readyz check failed
	//
	// /readyz?verbose: 503
	// [+]HealthCheck ok
	// [-]db failed: not ready yet
	// readyz check failed
}

// A program of two services: the web server answers health and is closed first.
func ExampleRun() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	checker := services.NewChecker("", "")
	worker := services.New(services.Config{
		Name:  "worker",
		Run:   func(ctx context.Context, _ *services.Status) error { <-ctx.Done(); return nil },
		Close: func() error { fmt.Println("worker closed"); return nil },
	})
	server := &http.Server{Handler: checker.Handler(), ReadHeaderTimeout: 5 * time.Second}
	web := services.New(services.Config{
		Name: "web",
		Run: func(ctx context.Context, _ *services.Status) error {
			listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			served := make(chan error, 1)
			go func() { served <- server.Serve(listener) }()
			cancel() // enough for an example; in a program a signal does the same
			select {
			case err := <-served:
				return err
			case <-ctx.Done(): // let requests end; the Timeout of Run bounds it
				return server.Shutdown(context.WithoutCancel(ctx))
			}
		},
		Close: func() error { fmt.Println("web closed"); return nil },
	})

	err := services.Run(ctx, services.RunConfig{
		Checker: checker,
		Drain:   10 * time.Millisecond,
		Timeout: 10 * time.Second,
		OnStop:  func(reason error) { fmt.Println("stopping:", reason) },
	}, worker, web)
	fmt.Println(err)

	// Output:
	// stopping: context canceled
	// web closed
	// worker closed
	// <nil>
}

// Metrics of any kind hang on the hooks.
func ExampleHealthCheckerConfig() {
	checker := services.HealthCheckerConfig{
		Interval:  10 * time.Second,
		SetStatus: func(_ context.Context, name string, healthy bool) { fmt.Println("gauge", name, healthy) },
		Delete:    func(_ context.Context, name string) { fmt.Println("delete", name) },
	}.New()
	svc := services.New(services.Config{Name: "svc"})
	if err := errors.Join(svc.Start(context.Background()), checker.Register(svc), checker.Start(),
		checker.Unregister("svc"), checker.Close(), svc.Close()); err != nil {
		fmt.Println(err)
	}

	// Output:
	// gauge svc true
	// delete svc
}

// A watch in the old style, which knows no end but its context, is ended by a
// stop channel, and the two endings are told apart.
func ExampleStopChan_NewCtx() {
	watch := func(ctx context.Context, stop services.StopChan) error {
		ctx, cancel := stop.Ctx(ctx)
		defer cancel()
		for {
			if err := next(ctx); err != nil {
				if errors.Is(context.Cause(ctx), services.ErrStopped) {
					return nil // asked to stop
				}
				return fmt.Errorf("the watch broke: %w", err)
			}
		}
	}

	stop := make(services.StopChan)
	time.AfterFunc(10*time.Millisecond, func() { close(stop) })
	fmt.Println(watch(context.Background(), stop))

	broken, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	fmt.Println(watch(broken, make(services.StopChan)))

	// Output:
	// <nil>
	// the watch broke: context deadline exceeded
}

// next waits for an event that does not come.
func next(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}
