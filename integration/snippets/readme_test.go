// Package snippets_test runs the etcd code that the documents show.
package snippets_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func greet(ctx context.Context, endpoints []string) (outcome string, err error) {
	cli, err := etcdcall.New(clientv3.Config{Endpoints: endpoints})
	if err != nil {
		return "", err
	}
	defer cli.Close()
	_, err = cli.Put(ctx, "greeting", "hello")
	switch etcdcall.OutcomeOf(err) {
	case etcdcall.Applied: // err is nil
		outcome = "applied"
	case etcdcall.NotApplied: // err says why; the store is as it was
		outcome = "not applied"
	case etcdcall.Unknown: // read it back before doing it again
		outcome = "unknown"
	}
	return outcome, err
}

func TestAWriteTellsItsOutcome(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	if outcome, err := greet(t.Context(), c.Endpoints()); outcome != "applied" || err != nil {
		t.Errorf("got %s, %v", outcome, err)
	}
	if err := c.Members()[0].Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if outcome, err := greet(ctx, c.Endpoints()); outcome != "not applied" || err == nil {
		t.Errorf("without a server: got %s, %v", outcome, err)
	}
}

// follow keeps users in step with the keys below users/.
func follow(ctx context.Context, cli *clientv3.Client, users *sync.Map) error {
	w, err := etcdcall.NewWatch(ctx, cli, "users/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	defer w.Stop()
	for event, err := range w.Events() {
		if err != nil {
			return err // says why the watch cannot go on
		}
		users.Store(string(event.Kv.Key), string(event.Kv.Value))
	}
	return nil
}

func TestAWatchFollowsItsRange(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli, err := etcdcall.New(clientv3.Config{Endpoints: c.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	var users sync.Map
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { done <- follow(ctx, cli, &users) }()
	for seen := false; !seen; {
		// Again and again, since a watch from now begins when it begins.
		if _, err := cli.Put(t.Context(), "users/7", "Ada"); err != nil {
			t.Fatal(err)
		}
		_, seen = users.Load("users/7")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v", err)
	}
}

func underLock(ctx context.Context, cli *clientv3.Client, writeReport func(ctx context.Context, token int64) error) error {
	s, err := concurrency.NewSession(cli, concurrency.WithTTL(10))
	if err != nil {
		return err
	}
	defer s.Close()
	m := concurrency.NewMutex(s, "/locks/report")
	if err := m.Lock(ctx); err != nil {
		return err
	}
	defer m.Unlock(ctx)
	return writeReport(m.Ctx(), m.Token()) // the context ends if the lock is lost
}

func TestALockHasATokenAndAContext(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli, err := etcdcall.New(clientv3.Config{Endpoints: c.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	var last int64
	for range 2 {
		err := underLock(t.Context(), cli, func(ctx context.Context, token int64) error {
			if ctx.Err() != nil || token <= last {
				t.Errorf("context %v, token %d after %d", ctx.Err(), token, last)
			}
			last = token
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestAWriteIsAppliedOnce(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cfg := clientv3.Config{Endpoints: c.Endpoints()}
	cli, err := etcdcall.New(cfg, etcdcall.WithExactlyOnce("myservice/once/"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	lost, err := c.Inject(etcdtest.Fault{Method: etcdtest.MethodTxn, After: true, Answer: etcdtest.Lose()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lost.Stop)
	for n := int64(1); n <= 3; n++ {
		if _, err := cli.Put(t.Context(), "key", "value"); err != nil {
			t.Fatal(err)
		}
		r, err := cli.Get(t.Context(), "key")
		if err != nil || r.Kvs[0].Version != n {
			t.Fatalf("after %d writes: %v, %v", n, r, err)
		}
	}
	if lost.Fired() != 1 {
		t.Error("no response was lost")
	}
}

func TestReadsSurviveTheLeader(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithMembers(3))
	cli, err := etcdcall.New(clientv3.Config{Endpoints: c.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cli.Close() })

	leader, err := c.WaitLeader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := leader.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Get(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
}
