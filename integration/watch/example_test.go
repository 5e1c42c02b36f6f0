package watch_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// exampleClient starts a cluster for an example and returns a client of it, and
// what ends both.
func exampleClient() (*clientv3.Client, func()) {
	c, err := etcdtest.Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	cli, err := etcdcall.New(c.Config())
	if err != nil {
		log.Fatal(err)
	}
	return cli, func() { _ = errors.Join(cli.Close(), c.Close()) }
}

// A watch from now, read in a loop that says how it ended.
func ExampleNewWatch() {
	cli, end := exampleClient()
	defer end()
	ctx := context.Background()

	w, err := etcdcall.NewWatch(ctx, cli, "users/", clientv3.WithPrefix())
	if err != nil {
		log.Fatal(err)
	}
	defer w.Stop()
	for _, name := range []string{"users/ann", "users/bob"} {
		if _, err := cli.Put(ctx, name, "here"); err != nil {
			log.Fatal(err)
		}
	}

	seen := 0
	for ev, err := range w.Events() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s\n", ev.Type, ev.Kv.Key)
		if seen++; seen == 2 {
			w.Stop() // the loop ends without an error
		}
	}
	fmt.Println(errors.Is(w.Err(), etcdcall.ErrStopped))
	// Output:
	// PUT users/ann
	// PUT users/bob
	// true
}

// What a caller does about each end of a watch.
func ExampleWatch_Next() {
	cli, end := exampleClient()
	defer end()
	ctx, cancel := context.WithCancel(context.Background())
	w, err := etcdcall.NewWatch(ctx, cli, "key")
	if err != nil {
		log.Fatal(err)
	}
	cancel()

	_, err = w.Next(context.Background())
	var broken *etcdcall.WatchError
	switch {
	case errors.Is(err, etcdcall.ErrStopped):
		fmt.Println("stopped")
	case errors.Is(err, context.Canceled):
		fmt.Println("its context ended")
	case errors.As(err, &broken):
		fmt.Println("broken after revision", broken.Revision)
	}
	// Output: its context ended
}

// A map that follows a prefix for ever, through compaction and restores.
func ExampleListWatch() {
	cli, end := exampleClient()
	defer end()
	ctx := context.Background()
	put := func(key, value string) {
		if _, err := cli.Put(ctx, key, value); err != nil {
			log.Fatal(err)
		}
	}
	put("conf/a", "1")

	l, err := etcdcall.NewListWatch(ctx, cli, "conf/", clientv3.WithPrefix())
	if err != nil {
		log.Fatal(err)
	}
	defer l.Stop()
	conf := map[string]string{}
	for ev, err := range l.Events() {
		if err != nil {
			log.Fatal(err)
		}
		if ev.Type == clientv3.EventTypeDelete {
			delete(conf, string(ev.Kv.Key))
		} else {
			conf[string(ev.Kv.Key)] = string(ev.Kv.Value)
		}
		fmt.Println(conf)
		if len(conf) == 1 {
			put("conf/b", "2")
		} else {
			l.Stop()
		}
	}
	// Output:
	// map[conf/a:1]
	// map[conf/a:1 conf/b:2]
}
