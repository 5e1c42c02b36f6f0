package etcdcall_test

import (
	"context"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
)

// A write that failed says whether it happened.
func ExampleNew() {
	cli, err := etcdcall.New(clientv3.Config{Endpoints: []string{"http://127.0.0.1:2379"}})
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = cli.Close() }()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = cli.Put(ctx, "greeting", "hello")
	switch etcdcall.OutcomeOf(err) {
	case etcdcall.Applied: // err is nil
		log.Print("written")
	case etcdcall.NotApplied:
		log.Print("the store is as it was: ", err)
	case etcdcall.Unknown:
		log.Print("read it back before doing it again: ", err)
	}
}

// With exactly-once writes no failure makes a caller choose between losing a
// write and repeating it.
func ExampleWithExactlyOnce() {
	cli, err := etcdcall.New(clientv3.Config{Endpoints: []string{"http://127.0.0.1:2379"}}, etcdcall.WithExactlyOnce("/myservice/once/"))
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = cli.Close() }()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	resp, err := cli.Put(ctx, "greeting", "hello")
	if err != nil {
		log.Print(err)
		return
	}
	log.Print("written once, at revision ", resp.Header.Revision)
}

// A ListWatch keeps a copy of a prefix in step for ever.
func ExampleNewListWatch() {
	cli, err := etcdcall.New(clientv3.Config{Endpoints: []string{"http://127.0.0.1:2379"}})
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = cli.Close() }()

	users, err := etcdcall.NewListWatch(context.Background(), cli, "users/", clientv3.WithPrefix())
	if err != nil {
		log.Print(err)
		return
	}
	defer users.Stop()
	names := map[string]string{}
	for event, err := range users.Events() {
		switch {
		case err != nil:
			log.Print("this copy cannot go on: ", err)
		case event.Type == clientv3.EventTypeDelete:
			delete(names, string(event.Kv.Key))
		default:
			names[string(event.Kv.Key)] = string(event.Kv.Value)
		}
	}
}
