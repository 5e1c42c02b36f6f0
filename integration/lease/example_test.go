package lease_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// A lease that is kept alive until it is lost, and why it was.
func ExampleKeepLease() {
	c, err := etcdtest.Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	cli, err := etcdcall.New(c.Config())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = cli.Close() }()
	ctx := context.Background()

	granted, err := cli.Grant(ctx, 5)
	if err != nil {
		log.Fatal(err)
	}
	k, err := etcdcall.KeepLease(ctx, cli, granted.ID)
	if err != nil {
		log.Fatal(err)
	}
	defer k.Stop()
	if _, err := cli.Revoke(ctx, granted.ID); err != nil {
		log.Fatal(err)
	}

	<-k.Done()
	if lost, ok := errors.AsType[*etcdcall.LeaseError](k.Err()); ok {
		fmt.Println("lost:", lost.Reason)
	}
	// Output: lost: revoked
}
