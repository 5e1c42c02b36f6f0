package etcdcall

import (
	"context"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestRetriesOfAnOverloadedServerAreBudgeted(t *testing.T) {
	t.Parallel()
	s := startScripted(t, func(context.Context, string, int, any) (any, error) {
		// So it arrives from real servers, as code Unknown.
		return nil, status.Error(codes.Unknown, rpctypes.ErrTooManyRequests.Error())
	})
	cli := s.client(t)
	if _, err := cli.Get(within5s(t), "k"); err != rpctypes.ErrTooManyRequests { //nolint:errorlint // == is promised
		t.Errorf("got %T: %v", err, err)
	}
	// A6: half of 10 tokens.
	if n := s.count(pb.KV_Range_FullMethodName); n != 5 {
		t.Errorf("%d attempts of the first call, want 5", n)
	}
	_, err := cli.Put(within5s(t), "k", "v")
	if n := s.count(pb.KV_Put_FullMethodName); n != 1 || OutcomeOf(err) != NotApplied {
		t.Errorf("%d attempts of a call after the budget was spent: %v", n, err)
	}
}

func TestAnElectionDoesNotUseUpTheBudget(t *testing.T) {
	t.Parallel()
	s := startScripted(t, func(_ context.Context, method string, n int, _ any) (any, error) {
		if n <= 50 {
			return nil, rpctypes.ErrGRPCNoLeader
		}
		return success(method), nil
	})
	if _, err := s.client(t).Put(within5s(t), "k", "v"); err != nil {
		t.Error(err)
	}
}
