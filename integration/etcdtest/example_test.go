package etcdtest_test

import (
	"context"
	"fmt"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

// A program starts a cluster, and loses the response to a write that the
// server has applied.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := etcdtest.Start(ctx)
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = c.Close() }()
	cli, err := clientv3.New(c.Config())
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = cli.Close() }()

	lost, err := c.Inject(etcdtest.Fault{Method: etcdtest.MethodPut, After: true, Answer: etcdtest.Lose()})
	if err != nil {
		log.Print(err)
		return
	}
	_, err = cli.Put(ctx, "key", "value")
	fmt.Println("the client was told of a failure:", err != nil)
	fmt.Println("responses lost:", lost.Fired())

	r, err := cli.Get(ctx, "key")
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println("the write was applied:", r.Count == 1)
	// Output:
	// the client was told of a failure: true
	// responses lost: 1
	// the write was applied: true
}

// A member dies, and another one leads.
func ExampleMember_Kill() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := etcdtest.Start(ctx, etcdtest.WithMembers(3))
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = c.Close() }()

	old, err := c.WaitLeader(ctx)
	if err != nil {
		log.Print(err)
		return
	}
	if err := old.Kill(); err != nil {
		log.Print(err)
		return
	}
	leader, err := c.WaitLeader(ctx)
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println("another member leads:", leader != old)
	if err := old.Restart(ctx); err != nil {
		log.Print(err)
		return
	}
	fmt.Println("all members run:", old.Running())
	// Output:
	// another member leads: true
	// all members run: true
}
