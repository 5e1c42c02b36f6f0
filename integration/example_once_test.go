package integration_test

import (
	"context"
	"fmt"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// A write is applied and its response lost. The client tries again, finds that
// the write happened, and returns the response that it would have got.
func Example_exactlyOnce() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cluster, err := etcdtest.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer cluster.Close()

	cli, err := etcdcall.New(cluster.Config(), etcdcall.WithExactlyOnce("myservice/once/"))
	if err != nil {
		log.Fatal(err)
	}
	defer cli.Close()
	if _, err := cli.Put(ctx, "balance", "100"); err != nil {
		log.Print(err)
		return
	}

	loss, err := cluster.Inject(etcdtest.Fault{Method: etcdtest.MethodTxn, After: true, Answer: etcdtest.Lose()})
	if err != nil {
		log.Print(err)
		return
	}
	resp, err := cli.Put(ctx, "balance", "90", clientv3.WithPrevKV())
	if err != nil {
		log.Print(err)
		return
	}
	now, err := cli.Get(ctx, "balance")
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println("responses lost:", loss.Fired())
	fmt.Printf("the balance was %s, is %s, and was written %d times\n", resp.PrevKv.Value, now.Kvs[0].Value, now.Kvs[0].Version)
	fmt.Println("told the right revision:", resp.Header.Revision == now.Kvs[0].ModRevision)
	// Output:
	// responses lost: 1
	// the balance was 100, is 90, and was written 2 times
	// told the right revision: true
}
