package calls_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// worker is the user whose tokens grow old. A signed token carries the revision
// of the users and permissions at which it was made, and every later change of
// any of them makes the server refuse it with AuthOldRevision.
const worker = "worker"

// tokenServer is a member with signed tokens. It counts what the worker asks it.
type tokenServer struct {
	*etcdtest.Cluster
	logins, puts, refused atomic.Int64
	// beforePut and afterRefusal run in the worker's puts, if set.
	beforePut, afterRefusal func(ctx context.Context)
}

// newTokenServer starts a member with a worker who may write. What s has set
// runs in the worker's puts from the start.
func newTokenServer(t *testing.T, s *tokenServer) {
	t.Helper()
	token := signedTokens(t)
	s.Cluster = etcdtest.New(t, etcdtest.WithAuth("secret"),
		etcdtest.WithServerConfig(func(cfg *embed.Config) { cfg.AuthToken = token }),
		etcdtest.WithServerOptions(grpc.ChainUnaryInterceptor(s.intercept)))
	admin := client(t, s.Config())
	must(t, second(admin.RoleAdd(soon(t), worker)))
	must(t, second(admin.RoleGrantPermission(soon(t), worker, "k", "l", clientv3.PermissionType(clientv3.PermReadWrite))))
	must(t, second(admin.UserAdd(soon(t), worker, "work")))
	must(t, second(admin.UserGrantRole(soon(t), worker, worker)))
}

func (s *tokenServer) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	switch r := req.(type) {
	case *pb.AuthenticateRequest:
		if r.GetName() == worker {
			s.logins.Add(1)
		}
	case *pb.PutRequest:
		s.puts.Add(1)
		if s.beforePut != nil {
			s.beforePut(ctx)
		}
		resp, err := handler(ctx, req)
		if errors.Is(rpctypes.Error(err), rpctypes.ErrAuthOldRevision) {
			s.refused.Add(1)
			if s.afterRefusal != nil {
				s.afterRefusal(ctx)
			}
		}
		return resp, err
	}
	return handler(ctx, req)
}

// workers is the configuration of a client of the worker's.
func (s *tokenServer) workers() clientv3.Config {
	cfg := s.Config()
	cfg.Username, cfg.Password = worker, "work"
	return cfg
}

// change makes all tokens old.
func change(ctx context.Context, admin *clientv3.Client, n int64) error {
	key := fmt.Sprint("other", n)
	return second(admin.RoleGrantPermission(ctx, worker, key, "", clientv3.PermissionType(clientv3.PermRead)))
}

// signedTokens makes keys, and returns the configuration of a member that signs
// tokens with them.
func signedTokens(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(t, err)
	dir := t.TempDir()
	write := func(name, kind string, bytes []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600))
		return path
	}
	return fmt.Sprintf("jwt,pub-key=%s,priv-key=%s,sign-method=RS256,ttl=10m",
		write("public.pem", "PUBLIC KEY", public),
		write("private.pem", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)))
}

const manyCallers = 64

// refusedTogether lets callers write with a token that has grown old, and holds
// back the refusals until all of them were refused. It returns how many tokens
// they asked for.
func refusedTogether(t *testing.T, ours bool) int64 {
	t.Helper()
	all := make(chan struct{})
	release := sync.OnceFunc(func() { close(all) })
	s := &tokenServer{}
	s.afterRefusal = func(ctx context.Context) {
		if s.refused.Load() == manyCallers { // which several may see
			release()
		}
		select {
		case <-all:
		case <-ctx.Done():
		}
	}
	newTokenServer(t, s)
	cli, err := clientv3.New(s.workers())
	must(t, err)
	if ours {
		must(t, cli.Close())
		cli = client(t, s.workers())
	} else {
		t.Cleanup(func() { _ = cli.Close() })
	}
	must(t, second(cli.Put(soon(t), "k", "v")))
	must(t, change(soon(t), s.Client(t), 0))
	loginsBefore, putsBefore := s.logins.Load(), s.puts.Load()

	ctx := soon(t)
	var wg sync.WaitGroup
	for i := range manyCallers {
		wg.Go(func() {
			if err := second(cli.Put(ctx, fmt.Sprint("k", i), "v")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.refused.Load(); n != manyCallers {
		t.Errorf("%d puts were refused, want %d", n, manyCallers)
	}
	if n := s.puts.Load() - putsBefore; n != 2*manyCallers {
		t.Errorf("%d puts were sent, want each of %d twice", n, manyCallers)
	}
	return s.logins.Load() - loginsBefore
}

func TestATokenOfAnOldRevisionIsRefreshedOnceForAll(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		ours bool
		want int64
	}{{"Reprise", true, 1}, {"clientv3", false, manyCallers}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if n := refusedTogether(t, c.ours); n != c.want {
				t.Errorf("%d callers with an old token asked for %d, want %d", manyCallers, n, c.want)
			}
		})
	}
}

func TestATokenOfAnOldRevisionIsRefreshedWithinABudget(t *testing.T) {
	t.Parallel()
	const changes = 10 // in a row, each before another attempt
	for _, c := range []struct {
		name     string
		ours     bool
		attempts int64
	}{{"Reprise", true, 4}, {"clientv3", false, changes + 1}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var admin *clientv3.Client
			var on atomic.Bool
			var made atomic.Int64
			s := &tokenServer{}
			s.beforePut = func(ctx context.Context) {
				if !on.Load() {
					return
				}
				if n := made.Add(1); n <= changes {
					if err := change(ctx, admin, n); err != nil {
						t.Error(err)
					}
				}
			}
			newTokenServer(t, s)
			admin = client(t, s.Config())
			cli, err := clientv3.New(s.workers())
			must(t, err)
			if c.ours {
				must(t, cli.Close())
				cli = client(t, s.workers())
			} else {
				t.Cleanup(func() { _ = cli.Close() })
			}
			must(t, second(cli.Put(soon(t), "k", "v")))
			on.Store(true)
			putsBefore, loginsBefore := s.puts.Load(), s.logins.Load()
			err = second(cli.Put(soon(t), "k", "w"))
			puts, logins := s.puts.Load()-putsBefore, s.logins.Load()-loginsBefore
			if puts != c.attempts || logins > c.attempts {
				t.Errorf("%d attempts and %d tokens, want %d attempts", puts, logins, c.attempts)
			}
			if !c.ours {
				must(t, err)
				return
			}
			if err != rpctypes.ErrAuthOldRevision || etcdcall.OutcomeOf(err) != etcdcall.NotApplied { //nolint:errorlint // == is what is promised
				t.Errorf("got %T: %v", err, err)
			}
		})
	}
}

func TestACallHealsAfterTheRevisionMovedTwice(t *testing.T) {
	t.Parallel()
	var admin *clientv3.Client
	var left atomic.Int64
	s := &tokenServer{}
	s.beforePut = func(ctx context.Context) {
		if n := left.Add(-1); n >= 0 {
			if err := change(ctx, admin, n); err != nil {
				t.Error(err)
			}
		}
	}
	left.Store(0)
	newTokenServer(t, s)
	admin = client(t, s.Config())
	cli := client(t, s.workers())
	must(t, second(cli.Put(soon(t), "k", "v")))
	before := s.logins.Load()
	left.Store(2)
	must(t, second(cli.Put(soon(t), "k", "w")))
	if refused, logins := s.refused.Load(), s.logins.Load()-before; refused != 2 || logins != 2 {
		t.Errorf("refused %d times, asked for %d tokens, want 2 and 2", refused, logins)
	}
	got, err := cli.Get(soon(t), "k")
	must(t, err)
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "w" || got.Kvs[0].Version != 2 {
		t.Errorf("the store has %v", got.Kvs)
	}
}
