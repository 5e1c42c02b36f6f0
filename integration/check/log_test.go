package check_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/reprise-go/reprise/integration/check"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReadLogReadsEveryChange(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	truth, err := c.Member(0).Truth()
	must(t, err)
	for range 3 {
		_, err = truth.Put(soon(t), "p/key", "value")
		must(t, err)
		_, err = truth.Put(soon(t), "other", "value")
		must(t, err)
	}
	last, err := truth.Delete(soon(t), "p/key")
	must(t, err)
	_, err = truth.Put(soon(t), "p/key", "later")
	must(t, err)

	log, err := check.ReadLog(soon(t), truth, "p/", 1, last.Header.Revision)
	must(t, err)
	if len(log.Events) != 4 {
		t.Fatalf("got %d changes, want 3 puts and a deletion", len(log.Events))
	}
	if log, err = check.ReadLog(soon(t), truth, "p/", 5, 4); err != nil || len(log.Events) > 0 {
		t.Errorf("an empty span: got %v, %v", log, err)
	}
	_, err = c.Compact(soon(t), 0)
	must(t, err)
	if _, err = check.ReadLog(soon(t), truth, "p/", 1, last.Header.Revision); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("got %v, want %v", err, rpctypes.ErrCompacted)
	}
}

func TestReadLogEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	truth, err := c.Member(0).Truth()
	must(t, err)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("the reason"))
	defer cancel()
	if _, err := check.ReadLog(ctx, truth, "p/", 1, 1000); err == nil {
		t.Error("it read a change that never was")
	}
}
