package program_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
	"github.com/reprise-go/reprise/services"
)

// follow prints the changes of a key until it is asked to stop, and tells that
// from a watch that broke.
func follow(ctx context.Context, stop services.StopChan, cli *clientv3.Client, key string, seen func(value string)) error {
	ctx, cancel := stop.Ctx(ctx)
	defer cancel()
	watch, err := etcdcall.NewWatch(ctx, cli, key)
	if err != nil {
		return err
	}
	for {
		changes, err := watch.Next(context.Background())
		if errors.Is(err, services.ErrStopped) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the watch broke: %w", err)
		}
		for _, ev := range changes.Events {
			seen(string(ev.Kv.Value))
		}
	}
}

func TestAStopChannelEndsAWatchAndNothingElseLooksLikeIt(t *testing.T) {
	c := etcdtest.New(t)
	cli, err := etcdcall.New(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()

	for name, end := range map[string]func(stop services.StopChan, cancel context.CancelFunc){
		"stopped":   func(stop services.StopChan, _ context.CancelFunc) { close(stop) },
		"cancelled": func(_ services.StopChan, cancel context.CancelFunc) { cancel() },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		stop, ended, values := make(services.StopChan), make(chan error, 1), make(chan string, 100)
		go func() { ended <- follow(ctx, stop, cli, "key", func(v string) { values <- v }) }()
		// The watch has begun when it sees a value.
		eventually(t, name+" watch sees a value", func() bool {
			if _, err := cli.Put(ctx, "key", "value"); err != nil {
				t.Fatal(err)
			}
			return len(values) > 0
		})
		end(stop, cancel)
		err := <-ended
		cancel()
		if stopped := err == nil; stopped != (name == "stopped") || (!stopped && !errors.Is(err, context.Canceled)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func Example_stopChannelEndsAWatch() {
	ctx := context.Background()
	cluster, err := etcdtest.Start(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	cli, err := etcdcall.New(cluster.Config())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cli.Close()

	stop := make(services.StopChan)
	watchCtx, cancel := stop.NewCtx()
	defer cancel()
	watch, err := etcdcall.NewWatch(watchCtx, cli, "greeting")
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := cli.Put(ctx, "greeting", "hello"); err != nil {
		fmt.Println(err)
		return
	}
	for changes, err := range watch.All() {
		if errors.Is(err, services.ErrStopped) {
			fmt.Println("asked to stop")
			break
		}
		if err != nil {
			fmt.Println("the watch broke:", err)
			break
		}
		fmt.Printf("%s\n", changes.Events[0].Kv.Value)
		close(stop) // the condition for which the program waited
	}

	// Output:
	// hello
	// asked to stop
}
