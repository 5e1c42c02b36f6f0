package snippets_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

var ErrStaleHolder = errors.New("somebody else has held the lock since")

// Disk is something outside of etcd that a lock guards.
type Disk struct {
	mu     sync.Mutex
	newest int64
	data   []byte
}

func (d *Disk) Write(ctx context.Context, data []byte, token int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if token < d.newest {
		return ErrStaleHolder
	}
	d.newest = token
	return d.store(ctx, data)
}

func (d *Disk) store(ctx context.Context, data []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	d.data = data
	return nil
}

func writeLocked(ctx context.Context, m *concurrency.Mutex, disk *Disk, data []byte) error {
	if err := m.Lock(ctx); err != nil {
		return err
	}
	defer m.Unlock(ctx)
	return disk.Write(m.Ctx(), data, m.Token())
}

func putLocked(ctx context.Context, cli *clientv3.Client, m *concurrency.Mutex, text string) (bool, error) {
	resp, err := cli.Txn(ctx).If(m.IsOwner()).Then(clientv3.OpPut("report", text)).Commit()
	if err != nil {
		return false, err
	}
	return resp.Succeeded, nil
}

func TestAHolderOfThePastIsRefused(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := etcdtest.New(t)
	cli, err := etcdcall.New(clientv3.Config{Endpoints: c.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	s, err := concurrency.NewSession(cli)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })

	past, disk := concurrency.NewMutex(s, "/locks/disk"), new(Disk)
	if err := past.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	token := past.Token()
	if ok, err := putLocked(ctx, cli, past, "by the holder"); !ok || err != nil {
		t.Errorf("the holder's transaction: %v, %v", ok, err)
	}
	if _, err := cli.Delete(ctx, past.Key()); err != nil {
		t.Fatal(err)
	}
	if err := writeLocked(ctx, concurrency.NewMutex(s, "/locks/disk"), disk, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := disk.Write(ctx, []byte("old"), token); !errors.Is(err, ErrStaleHolder) || string(disk.data) != "new" {
		t.Errorf("got %v and the data %q", err, disk.data)
	}
	if ok, err := putLocked(ctx, cli, past, "by a holder of the past"); ok || err != nil {
		t.Errorf("the transaction of a holder of the past: %v, %v", ok, err)
	}
}
