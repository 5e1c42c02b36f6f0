package calls_test

import (
	"context"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestGetStreamOpensAgainUntilItsFirstChunk(t *testing.T) {
	t.Parallel()
	const keys = 100
	for name, fault := range map[string]etcdtest.Fault{
		"refused": {Method: pb.KV_RangeStream_FullMethodName, Calls: 3, Answer: etcdtest.Fail(status.Error(codes.Unavailable, "down"))},
		"lost":    {Method: pb.KV_RangeStream_FullMethodName, Calls: 2, Answer: etcdtest.Lose()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t)
			for i := range keys {
				must(t, second(truth(t, c).Put(soon(t), fmt.Sprintf("k%03d", i), "v")))
			}
			for _, ours := range []bool{false, true} {
				cli := c.Client(t)
				if ours {
					cli = client(t, c.Config())
				}
				must(t, second(cli.Get(soon(t), "k")))
				injected, err := c.Inject(fault)
				must(t, err)
				got, err := countStreamed(soon(t), cli)
				injected.Stop()
				if ours && (err != nil || got != keys) {
					t.Errorf("Reprise: %d keys, %v", got, err)
				}
				if !ours && err == nil {
					t.Error("clientv3 alone was not hurt: the fault proves nothing")
				}
			}
		})
	}
}

func countStreamed(ctx context.Context, cli *clientv3.Client) (int, error) {
	chunks, err := cli.GetStream(ctx, "k", clientv3.WithPrefix())
	if err != nil {
		return 0, err
	}
	n := 0
	for chunk := range chunks {
		if chunk.Err() != nil {
			err = chunk.Err()
			continue
		}
		n += len(chunk.Kvs)
	}
	return n, err
}
