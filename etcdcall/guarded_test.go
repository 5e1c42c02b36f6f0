package etcdcall

import (
	"context"
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestATransactionIsGuardedOnlyIfItCannotBeAppliedTwice(t *testing.T) {
	t.Parallel()
	mod5 := clientv3.Compare(clientv3.ModRevision("k"), "=", 5)
	put, del := clientv3.OpPut("k", "v"), clientv3.OpDelete("k")
	for _, c := range []struct {
		name      string
		cmps      []clientv3.Cmp
		then, els []clientv3.Op
		want      bool
	}{
		{"put on its modification revision", []clientv3.Cmp{mod5}, []clientv3.Op{put}, nil, true},
		{"delete on its modification revision", []clientv3.Cmp{mod5}, []clientv3.Op{del}, nil, true},
		{"more writes under the same guard", []clientv3.Cmp{mod5}, []clientv3.Op{put, clientv3.OpPut("l", "v")}, nil, true},
		{"the other branch only reads", []clientv3.Cmp{mod5}, []clientv3.Op{put}, []clientv3.Op{clientv3.OpGet("k")}, true},
		{"a range that covers the key is deleted", []clientv3.Cmp{mod5}, []clientv3.Op{clientv3.OpDelete("a", clientv3.WithRange("z"))}, nil, true},
		{"everything is deleted", []clientv3.Cmp{mod5}, []clientv3.Op{clientv3.OpDelete("", clientv3.WithPrefix())}, nil, true},
		{"delete on its creation revision", []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision("k"), "=", 5)}, []clientv3.Op{del}, nil, true},
		{"put leaves the creation revision", []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision("k"), "=", 5)}, []clientv3.Op{put}, nil, false},
		{"an absent key may be absent again", []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision("k"), "=", 0)}, []clientv3.Op{put}, nil, false},
		{"an absent key, by creation", []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision("k"), "=", 0)}, []clientv3.Op{put}, nil, false},
		{"a version may come back", []clientv3.Cmp{clientv3.Compare(clientv3.Version("k"), "=", 5)}, []clientv3.Op{put}, nil, false},
		{"a value may come back", []clientv3.Cmp{clientv3.Compare(clientv3.Value("k"), "=", "5")}, []clientv3.Op{put}, nil, false},
		{"another key is written", []clientv3.Cmp{mod5}, []clientv3.Op{clientv3.OpPut("l", "v")}, nil, false},
		{"a range beside the key is deleted", []clientv3.Cmp{mod5}, []clientv3.Op{clientv3.OpDelete("l", clientv3.WithRange("z"))}, nil, false},
		{"the comparison is not equality", []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision("k"), "<", 5)}, []clientv3.Op{put}, nil, false},
		{"the comparison is with a range", []clientv3.Cmp{mod5.WithRange("z")}, []clientv3.Op{put}, nil, false},
		{"the other branch writes", []clientv3.Cmp{mod5}, []clientv3.Op{put}, []clientv3.Op{clientv3.OpPut("l", "v")}, false},
		{"the write is in a transaction within", []clientv3.Cmp{mod5}, []clientv3.Op{clientv3.OpTxn(nil, []clientv3.Op{put}, nil)}, nil, false},
		{"no comparison", nil, []clientv3.Op{put}, nil, false},
	} {
		var got *pb.TxnRequest
		kv := clientv3.NewKVFromKVClient(&txnCatcher{caught: &got}, nil)
		_, _ = kv.Txn(t.Context()).If(c.cmps...).Then(c.then...).Else(c.els...).Commit()
		if isGuarded(got) != c.want {
			t.Errorf("%s: guarded is %v", c.name, !c.want)
		}
	}
}

type txnCatcher struct {
	optionCatcher
	caught **pb.TxnRequest
}

func TestAGuardedTransactionIsSentAgainAndTellsWhatItKnows(t *testing.T) {
	t.Parallel()
	lost := status.Error(codes.Unavailable, "reset")
	commit := func(cli *clientv3.Client, t *testing.T) (*clientv3.TxnResponse, error) {
		return cli.Txn(within5s(t)).If(clientv3.Compare(clientv3.ModRevision("k"), "=", 5)).Then(clientv3.OpPut("k", "v")).Commit()
	}
	answers := func(first error, succeeded bool) func(context.Context, string, int, any) (any, error) {
		return func(_ context.Context, _ string, n int, _ any) (any, error) {
			if n == 1 && first != nil {
				return nil, first
			}
			return &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: succeeded}, nil
		}
	}
	if resp, err := commit(startScripted(t, answers(lost, true)).client(t), t); err != nil || !resp.Succeeded {
		t.Errorf("the second attempt was the one that was applied: %v, %v", resp, err)
	}
	if resp, err := commit(startScripted(t, answers(nil, false)).client(t), t); err != nil || resp.Succeeded {
		t.Errorf("a guard that does not hold at once is no error: %v, %v", resp, err)
	}
	var a *AmbiguousError
	if _, err := commit(startScripted(t, answers(lost, false)).client(t), t); !errors.As(err, &a) || status.Code(err) != codes.Unavailable {
		t.Errorf("who broke the guard is unknown, got %T: %v", err, err)
	}
}

// Txn implements pb.KVClient: it keeps the request and makes no call.
func (c *txnCatcher) Txn(_ context.Context, req *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	*c.caught = req
	return nil, errProbe
}
