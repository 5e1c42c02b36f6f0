package integration_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/check"
)

// rawOnce is clientv3 with one attempt for each call, and an honest answer to
// what an error means for a write.
func rawOnce(t *testing.T, cfg clientv3.Config) loader {
	t.Helper()
	cfg.MaxUnaryRetries = 1
	cli, err := clientv3.New(cfg)
	must(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	return loader{kv: cli.KV, outcome: func(error) check.Outcome { return check.Unknown }}
}

// blind sends a write again after every error. It is what must not be done.
type blind struct{ clientv3.KV }

func (b blind) Put(ctx context.Context, key, value string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	return reprise.Do(ctx, func(ctx context.Context) (*clientv3.PutResponse, error) {
		return b.KV.Put(ctx, key, value, opts...)
	}, reprise.WithRetry(func() reprise.Retryer {
		return reprise.OnErrorFunc(reprise.Backoff{Initial: 10 * time.Millisecond}, func(error) bool { return true })
	}))
}

// It is the promise of etcdcall: what it retries was not applied, and what it
// calls not applied never is.
func TestLinearizableThroughReprise(t *testing.T) {
	t.Parallel()
	must(t, judged(t, func() []check.Op {
		return underUnrest(t, func(t *testing.T, cfg clientv3.Config) loader {
			t.Helper()
			cli, err := etcdcall.New(cfg)
			must(t, err)
			t.Cleanup(func() { _ = cli.Close() })
			return loader{kv: cli.KV, outcome: outcomeForCheck}
		})
	}))
}

func outcomeForCheck(err error) check.Outcome {
	switch etcdcall.OutcomeOf(err) {
	case etcdcall.Applied:
		return check.Applied
	case etcdcall.NotApplied:
		return check.NotApplied
	default:
		return check.Unknown
	}
}

// It proves the checker right on real histories: they are legal when the
// client is honest about what it does not know.
func TestLinearizableWhenNothingIsRetried(t *testing.T) {
	t.Parallel()
	must(t, judged(t, func() []check.Op { return underUnrest(t, rawOnce) }))
}

// It proves the load and the faults strong enough to expose a client that
// sends a write twice. A slow machine makes few operations in one history, and
// so may need more than one.
func TestBlindRetryIsNotLinearizable(t *testing.T) {
	t.Parallel()
	const histories = 5
	for range histories {
		ops := underUnrest(t, func(t *testing.T, cfg clientv3.Config) loader {
			t.Helper()
			l := rawOnce(t, cfg)
			l.kv = blind{l.kv}
			return l
		})
		start := time.Now()
		err := check.Linearizable(ops, time.Minute)
		t.Logf("judged in %v: %v", time.Since(start).Round(time.Millisecond), err)
		if _, illegal := errors.AsType[*check.NotLinearizableError](err); illegal {
			return
		}
		if !errors.Is(err, check.ErrUndecided) {
			must(t, err)
		}
	}
	t.Errorf("none of %d histories was found illegal", histories)
}
