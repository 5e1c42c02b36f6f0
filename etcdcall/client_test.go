package etcdcall

import (
	"context"
	"errors"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestConfigureFillsInOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	own := []grpc.DialOption{grpc.WithUserAgent("mine")}
	logger := zap.NewExample()
	given := clientv3.Config{
		DialOptions: own[:1:1], DialKeepAliveTime: time.Minute, MaxUnaryRetries: 7, Logger: logger,
	}
	got := Configure(given)
	if got.MaxUnaryRetries != 1 || got.DialKeepAliveTime != time.Minute || got.DialKeepAliveTimeout != 0 || got.Logger != logger {
		t.Errorf("got %+v", got)
	}
	// The connect parameters before the own options, so that those hold, and
	// DialOptions after them, so that the interceptor is the innermost.
	before := len(got.DialOptions) - len(own) - len(DialOptions())
	if before < 1 || got.DialOptions[before] != own[0] || len(given.DialOptions) != 1 {
		t.Errorf("%d dial options, the given ones became %d", len(got.DialOptions), len(given.DialOptions))
	}
	empty := Configure(clientv3.Config{})
	if empty.DialKeepAliveTime != DefaultKeepAliveTime || empty.DialKeepAliveTimeout != DefaultKeepAliveTimeout || empty.Logger == nil {
		t.Errorf("got %+v", empty)
	}
}

func TestWrapRefusesClientsThatCouldSendAWriteTwice(t *testing.T) {
	t.Parallel()
	endpoints := []string{"127.0.0.1:1"}
	s := startScripted(t, func(context.Context, string, int, any) (any, error) {
		return &pb.AuthenticateResponse{Token: "token"}, nil
	})
	retrying := Configure(clientv3.Config{Endpoints: []string{s.addr}, Username: "u", Password: "p"})
	retrying.MaxUnaryRetries = 0
	for name, cfg := range map[string]clientv3.Config{
		"plain":             {Endpoints: endpoints, Logger: zap.NewNop()},
		"with DialOptions":  {Endpoints: endpoints, Logger: zap.NewNop(), DialOptions: DialOptions()},
		"with retry put on": retrying,
	} {
		cli, err := clientv3.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		parts, err := Wrap(cli)
		var refused *ConfigurationError
		if parts != nil || !errors.As(err, &refused) {
			t.Errorf("%s: got %v, %v", name, parts, err)
		}
		_ = cli.Close()
	}
	if _, err := Wrap(nil); err == nil {
		t.Error("a nil client was accepted")
	}
	if _, err := Wrap(clientv3.NewCtxClient(t.Context())); err == nil {
		t.Error("a client without a connection was accepted")
	}
}

func TestWrapLeavesTheClientAsItIs(t *testing.T) {
	t.Parallel()
	s := startScripted(t, func(_ context.Context, method string, n int, _ any) (any, error) {
		if n == 1 {
			return nil, rpctypes.ErrGRPCNoLeader
		}
		return success(method), nil
	})
	cli, err := clientv3.New(Configure(clientv3.Config{Endpoints: []string{s.addr}}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cli.Close() }()
	before := cli.KV
	parts, err := Wrap(cli, nil, WithBackoff(fastBackoff))
	if err != nil {
		t.Fatal(err)
	}
	if cli.KV != before {
		t.Error("the client's KV was replaced")
	}
	if _, err := cli.Put(within5s(t), "k", "v"); !errors.Is(err, rpctypes.ErrNoLeader) {
		t.Errorf("the client itself retried: %v", err)
	}
	if _, err := parts.KV.Put(within5s(t), "k", "v"); err != nil {
		t.Errorf("the part did not: %v", err)
	}
	if got := s.count(pb.KV_Put_FullMethodName); got != 2 {
		t.Errorf("%d puts", got)
	}
}

func TestTheLimitsOfTheConfigurationHold(t *testing.T) {
	t.Parallel()
	s := startScripted(t, func(_ context.Context, method string, _ int, _ any) (any, error) { return success(method), nil })
	cli := newClient(t, clientv3.Config{Endpoints: []string{s.addr}, MaxCallSendMsgSize: 100, MaxCallRecvMsgSize: 1000})
	_, err := cli.Put(within5s(t), "k", string(make([]byte, 200)))
	if status.Code(err) != codes.ResourceExhausted || OutcomeOf(err) != NotApplied || s.count(pb.KV_Put_FullMethodName) != 0 {
		t.Errorf("outcome %v of %v after %d puts", OutcomeOf(err), err, s.count(pb.KV_Put_FullMethodName))
	}
}

func TestAutoSyncRunsAfterTheClientIsComplete(t *testing.T) {
	t.Parallel()
	synced := make(chan struct{}, 1)
	var s *scripted
	s = startScripted(t, func(_ context.Context, method string, _ int, _ any) (any, error) {
		if method != pb.Cluster_MemberList_FullMethodName {
			return success(method), nil
		}
		select {
		case synced <- struct{}{}:
		default:
		}
		return &pb.MemberListResponse{Members: []*pb.Member{{Name: "m", ClientURLs: []string{"http://" + s.addr}}}}, nil
	})
	for range 20 {
		cli, err := New(clientv3.Config{Endpoints: []string{s.addr}, AutoSyncInterval: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		for cli.Endpoints()[0] == s.addr {
			<-synced
		}
		if err := cli.Close(); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		_ = cli.Close()
	}
}
