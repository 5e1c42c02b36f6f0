package etcdcall

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// lines collects what is logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestAClientLogsFailedAttemptsToItsLogger(t *testing.T) {
	t.Parallel()
	s := startScripted(t, func(_ context.Context, method string, n int, _ any) (any, error) {
		if n == 1 && method != pb.Auth_Authenticate_FullMethodName {
			return nil, rpctypes.ErrGRPCUnhealthy
		}
		if method == pb.Auth_Authenticate_FullMethodName {
			return &pb.AuthenticateResponse{Token: "token"}, nil
		}
		return success(method), nil
	})
	var all, some lines
	debug := slog.New(slog.NewTextHandler(&all, &slog.HandlerOptions{Level: slog.LevelDebug}))
	// With tokens to fetch, clientv3 logs as well.
	cli := newClient(t, clientv3.Config{Endpoints: []string{s.addr}, Username: "u", Password: "p"}, WithLogger(debug))
	if _, err := cli.Get(within5s(t), "k"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"attempt failed", "/etcdserverpb.KV/Range", "unhealthy cluster", "retrying of unary invoker failed"} {
		if !strings.Contains(all.text(), want) {
			t.Errorf("%q is not in the log:\n%s", want, all.text())
		}
	}
	quiet := slog.New(slog.NewTextHandler(&some, &slog.HandlerOptions{Level: slog.LevelError}))
	if _, err := s.client(t, WithLogger(quiet), WithLogger(quiet)).Put(within5s(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
	if some.text() != "" {
		t.Errorf("logged below its level:\n%s", some.text())
	}
}

func TestAnOwnZapLoggerOfTheConfigurationStays(t *testing.T) {
	t.Parallel()
	own := zap.NewExample()
	if got := Configure(clientv3.Config{Logger: own}, WithLogger(slog.Default())); got.Logger != own {
		t.Error("the logger was replaced")
	}
}

func TestANilZapLoggerDiscardsEverything(t *testing.T) {
	t.Parallel()
	if NewZapHandler(nil).Enabled(t.Context(), slog.LevelError) {
		t.Error("a nil logger wants to log")
	}
}
