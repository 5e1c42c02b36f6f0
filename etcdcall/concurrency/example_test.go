package concurrency_test

import (
	"context"
	"log"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/etcdcall/concurrency"
)

// A transaction in the same etcd is guarded by the lock itself, so that it has no
// effect if the lock was lost meanwhile.
func ExampleMutex() {
	cli, err := etcdcall.New(clientv3.Config{Endpoints: []string{"http://127.0.0.1:2379"}})
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = cli.Close() }()
	s, err := concurrency.NewSession(cli, concurrency.WithTTL(10))
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = s.Close() }()

	ctx := context.Background()
	m := concurrency.NewMutex(s, "/locks/report")
	if err := m.Lock(ctx); err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = m.Unlock(ctx) }()
	resp, err := cli.Txn(m.Ctx()).If(m.IsOwner()).Then(clientv3.OpPut("report", "done")).Commit()
	log.Print(resp != nil && resp.Succeeded, err)
}
