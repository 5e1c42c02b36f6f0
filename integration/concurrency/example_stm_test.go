package concurrency_test

import (
	"context"
	"fmt"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
)

// The first transaction reads and commits. The others run on what the one before
// has written, and take one round trip each.
func ExampleWithMemory() {
	example(func(ctx context.Context, cli *clientv3.Client) error {
		requests := counted(cli)
		memory := concurrency.NewMemory(cli, 1<<20)
		for range 3 {
			_, err := concurrency.NewSTM(cli, func(s concurrency.STM) error {
				n, _ := strconv.Atoi(s.Get("/tickets/next"))
				s.Put("/tickets/next", strconv.Itoa(n+1))
				return nil
			}, concurrency.WithMemory(memory))
			if err != nil {
				return err
			}
		}
		fmt.Println(requests.txns.Load(), "requests for 3 transactions")
		return nil
	})
	// Output: 4 requests for 3 transactions
}

// A transaction that names its keys reads them in one request.
func ExampleWithPrefetch() {
	example(func(ctx context.Context, cli *clientv3.Client) error {
		requests := counted(cli)
		sum := 0
		_, err := concurrency.NewSTM(cli, func(s concurrency.STM) error {
			sum = 0
			for _, account := range []string{"accounts/a", "accounts/b", "accounts/c"} {
				n, _ := strconv.Atoi(s.Get(account))
				sum += n
			}
			return nil
		}, concurrency.WithPrefetch("accounts/a", "accounts/b", "accounts/c"), concurrency.WithAbortContext(ctx))
		fmt.Println(sum, "in", requests.txns.Load(), "request")
		return err
	})
	// Output: 0 in 1 request
}
