package concurrency_test

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

var levels = map[string]concurrency.Isolation{
	"serializable snapshot": concurrency.SerializableSnapshot,
	"serializable":          concurrency.Serializable,
	"repeatable reads":      concurrency.RepeatableReads,
}

func increment(key string) func(concurrency.STM) error {
	return func(s concurrency.STM) error {
		n, _ := strconv.Atoi(s.Get(key))
		s.Put(key, strconv.Itoa(n+1))
		return nil
	}
}

func value(t testing.TB, c *etcdtest.Cluster, key string) string {
	t.Helper()
	resp, err := truth(t, c).Get(soon(t), key)
	must(t, err)
	if len(resp.Kvs) == 0 {
		return ""
	}
	return string(resp.Kvs[0].Value)
}

func TestNoIncrementIsLost(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			var wg sync.WaitGroup
			for range 8 {
				cli := newClient(t, c)
				wg.Go(func() {
					for range 20 {
						_, err := concurrency.NewSTM(cli, increment(name),
							concurrency.WithIsolation(level), concurrency.WithAbortContext(within(t, 2*time.Minute)))
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if got := value(t, c, name); got != "160" {
				t.Errorf("counted %s", got)
			}
		})
	}
}

// calls counts the requests of a client.
type calls struct {
	clientv3.KV
	txns atomic.Int64
}

func (c *calls) Txn(ctx context.Context) clientv3.Txn {
	c.txns.Add(1)
	return c.KV.Txn(ctx)
}

func counted(cli *clientv3.Client) *calls {
	c := &calls{KV: cli.KV}
	cli.KV = c
	return c
}

func TestATransactionCostsNoMoreRoundTripsThanItNeeds(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := newClient(t, c)
	n := counted(cli)
	keys := []string{"a", "b", "c", "d"}
	for _, key := range keys {
		_, err := truth(t, c).Put(soon(t), key, "1")
		must(t, err)
	}
	before, err := truth(t, c).Get(soon(t), "a")
	must(t, err)
	read := func(s concurrency.STM) error {
		for _, key := range keys {
			if s.Get(key) != "1" {
				t.Errorf("%s is %q", key, s.Get(key))
			}
		}
		return nil
	}
	for name, test := range map[string]struct {
		apply func(concurrency.STM) error
		opts  []concurrency.STMOption
		want  int64
	}{
		"reads one by one":         {read, nil, 4},
		"reads prefetched":         {read, []concurrency.STMOption{concurrency.WithPrefetch(keys...)}, 1},
		"reads asked for together": {func(s concurrency.STM) error { s.Get(keys...); return read(s) }, nil, 1},
		"reads two at one level":   {read, []concurrency.STMOption{concurrency.WithIsolation(concurrency.RepeatableReads)}, 4},
		"nothing":                  {func(concurrency.STM) error { return nil }, nil, 0},
		"writes blindly":           {func(s concurrency.STM) error { s.Put("w", "1"); return nil }, nil, 1},
		"reads what it has written": {func(s concurrency.STM) error {
			s.Put("w", "2")
			if s.Get("w") != "2" {
				t.Error("its own write is not seen")
			}
			s.Del("w")
			if s.Get("w") != "" {
				t.Error("its own deletion is not seen")
			}
			return nil
		}, nil, 1},
		"reads prefetched and writes": {func(s concurrency.STM) error {
			s.Put("x", s.Get("a")+s.Get("b"))
			return nil
		}, []concurrency.STMOption{concurrency.WithPrefetch("a", "b")}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			n.txns.Store(0)
			resp, err := concurrency.NewSTM(cli, test.apply, test.opts...)
			must(t, err)
			if !resp.Succeeded || resp.Header == nil {
				t.Errorf("response: %v", resp)
			}
			if got := n.txns.Load(); got != test.want {
				t.Errorf("%d round trips, want %d", got, test.want)
			}
		})
	}
	after, err := truth(t, c).Get(soon(t), "a")
	must(t, err)
	if made := after.Header.Revision - before.Header.Revision; made > 3 {
		t.Errorf("%d revisions, want one for each transaction that writes", made)
	}
}

func TestAnAttemptSeesOneRevisionAlsoIfItWillNotCommit(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli, other := newClient(t, c), truth(t, c)
	move := func(t *testing.T, x, y string) {
		t.Helper()
		_, err := other.Txn(soon(t)).Then(clientv3.OpPut("x", x), clientv3.OpPut("y", y)).Commit()
		must(t, err)
	}
	for name, level := range map[string]concurrency.Isolation{
		"serializable snapshot": concurrency.SerializableSnapshot, "serializable": concurrency.Serializable,
	} {
		t.Run(name, func(t *testing.T) {
			move(t, "0", "0")
			attempts := 0
			_, err := concurrency.NewSTM(cli, func(s concurrency.STM) error {
				attempts++
				x := s.Get("x")
				if attempts < 4 {
					move(t, strconv.Itoa(attempts), strconv.Itoa(attempts))
				}
				if y := s.Get("y"); y != x {
					t.Errorf("attempt %d saw x=%s and y=%s", attempts, x, y)
				}
				s.Put("z", x)
				return nil
			}, concurrency.WithIsolation(level), concurrency.WithAbortContext(soon(t)))
			must(t, err)
			if attempts != 4 {
				t.Errorf("%d attempts", attempts)
			}
		})
	}
}

func TestASnapshotThatIsCompactedAwayIsTakenAnew(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := newClient(t, c)
	attempts := 0
	_, err := concurrency.NewSTM(cli, func(s concurrency.STM) error {
		attempts++
		s.Get("x")
		if attempts == 1 {
			_, err := truth(t, c).Put(soon(t), "other", "")
			must(t, err)
			_, err = c.Compact(soon(t), 0)
			must(t, err)
		}
		s.Get("y")
		return nil
	}, concurrency.WithAbortContext(soon(t)))
	must(t, err)
	if attempts != 2 {
		t.Errorf("%d attempts", attempts)
	}
}

func TestWhatEndsTheFunctionEndsTheTransaction(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := newClient(t, c)
	mine := errors.New("mine")
	put := func(s concurrency.STM) { s.Put("key", "value") }

	t.Run("an error", func(t *testing.T) {
		_, err := concurrency.NewSTM(cli, func(s concurrency.STM) error { put(s); return mine })
		if err != mine { //nolint:errorlint // the very error is promised
			t.Errorf("got %v", err)
		}
	})
	t.Run("a panic", func(t *testing.T) {
		defer func() {
			if recover() != mine { //nolint:errorlint // the very error is promised
				t.Error("the panic did not arrive")
			}
		}()
		_, _ = concurrency.NewSTM(cli, func(s concurrency.STM) error { put(s); panic(mine) })
	})
	t.Run("Goexit", func(t *testing.T) {
		var wg sync.WaitGroup
		returned := false
		wg.Go(func() {
			_, _ = concurrency.NewSTM(cli, func(s concurrency.STM) error { put(s); runtime.Goexit(); return nil })
			returned = true
		})
		wg.Wait()
		if returned {
			t.Error("it returned")
		}
	})
	t.Run("a read that fails, whatever the function recovers", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		deferred := false
		_, err := concurrency.NewSTM(cli, func(s concurrency.STM) error {
			defer func() { deferred = true; _ = recover() }()
			put(s)
			cancel()
			s.Get("x")
			t.Error("Get returned")
			return nil
		}, concurrency.WithAbortContext(ctx))
		if !errors.Is(err, context.Canceled) || !deferred {
			t.Errorf("got %v, deferred: %v", err, deferred)
		}
	})
	t.Run("nonsense", func(t *testing.T) {
		var bad *reprise.ArgumentError
		if _, err := concurrency.NewSTM(cli, nil); !errors.As(err, &bad) {
			t.Errorf("got %v", err)
		}
		if _, err := concurrency.NewSTM(cli, increment("x"), concurrency.WithIsolation(9), nil); !errors.As(err, &bad) {
			t.Errorf("got %v", err)
		}
	})
	if got := value(t, c, "key"); got != "" {
		t.Errorf("something was written: %q", got)
	}
}

func TestConflictsEndWithTheLimitsOfTheCaller(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli, other := newClient(t, c), truth(t, c)
	conflicting := func(s concurrency.STM) error {
		s.Get("x")
		_, err := other.Put(soon(t), "x", "")
		must(t, err)
		s.Put("y", "")
		return nil
	}
	for name, opt := range map[string]concurrency.STMOption{
		"attempts": concurrency.WithCallOptions(reprise.WithMaxAttempts(3)),
		"context":  concurrency.WithAbortContext(within(t, 100*time.Millisecond)),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := concurrency.NewSTM(cli, conflicting, opt)
			var stopped *reprise.Error
			if !errors.As(err, &stopped) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if name == "attempts" && (!errors.Is(err, concurrency.ErrConflict) || stopped.Made != 3) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestACommitWithoutAnAnswerIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	for name, cli := range map[string]*clientv3.Client{"etcdcall": newClient(t, c), "clientv3": c.Client(t)} {
		t.Run(name, func(t *testing.T) {
			committing := false
			_, err := concurrency.NewSTM(cli, func(s concurrency.STM) error {
				if committing {
					t.Error("the function ran again")
				}
				committing = true
				err := increment(name)(s)
				lose(t, c, etcdtest.MethodTxn, 1)
				return err
			}, concurrency.WithAbortContext(soon(t)))
			if _, ambiguous := errors.AsType[*etcdcall.AmbiguousError](err); !ambiguous {
				t.Errorf("got %v", err)
			}
			if got := value(t, c, name); got != "1" {
				t.Errorf("counted %q", got)
			}
		})
	}

	t.Run("exactly once", func(t *testing.T) {
		cli, err := etcdcall.New(c.Config(), etcdcall.WithExactlyOnce("once/"))
		must(t, err)
		defer cli.Close()
		for range 3 {
			_, err = concurrency.NewSTM(cli, func(s concurrency.STM) error {
				err := increment("exact")(s)
				lose(t, c, etcdtest.MethodTxn, 1)
				return err
			}, concurrency.WithAbortContext(soon(t)))
			must(t, err)
		}
		if got := value(t, c, "exact"); got != "3" {
			t.Errorf("counted %q", got)
		}
	})
}
