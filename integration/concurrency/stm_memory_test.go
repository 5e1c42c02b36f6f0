package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// answered counts the requests of a client to the store that were answered, below
// everything that the client does.
type answered struct {
	*clientv3.Client
	n atomic.Int64
}

func countAnswers(t *testing.T, c *etcdtest.Cluster) *answered {
	t.Helper()
	a := new(answered)
	config := c.Config()
	config.DialOptions = append(config.DialOptions, grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			err := invoke(ctx, method, req, reply, cc, opts...)
			if err == nil && strings.HasPrefix(method, "/etcdserverpb.KV/") {
				a.n.Add(1)
			}
			return err
		}))
	cli, err := etcdcall.New(config)
	must(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	a.Client = cli
	return a
}

// costs runs a transaction and says what it took.
func (a *answered) costs(t *testing.T, want int64, apply func(concurrency.STM) error, opts ...concurrency.STMOption) {
	t.Helper()
	before := a.n.Load()
	resp, err := concurrency.NewSTM(a.Client, apply, append(opts, concurrency.WithAbortContext(soon(t)))...)
	must(t, err)
	if !resp.Succeeded || resp.Header == nil {
		t.Errorf("response: %v", resp)
	}
	if got := a.n.Load() - before; got != want {
		t.Errorf("%d round trips, want %d", got, want)
	}
}

func put(t *testing.T, c *etcdtest.Cluster, key, value string) {
	t.Helper()
	_, err := truth(t, c).Put(soon(t), key, value)
	must(t, err)
}

// sum writes the sum of some keys to another.
func sum(to string, keys ...string) func(concurrency.STM) error {
	return func(s concurrency.STM) error {
		total := 0
		for _, key := range keys {
			n, _ := strconv.Atoi(s.Get(key))
			total += n
		}
		s.Put(to, strconv.Itoa(total))
		return nil
	}
}

func look(keys ...string) func(concurrency.STM) error {
	return func(s concurrency.STM) error {
		for _, key := range keys {
			s.Get(key)
		}
		return nil
	}
}

func TestARememberedTransactionTakesOneRoundTrip(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			a := countAnswers(t, c)
			m := concurrency.NewMemory(a.Client, 0)
			opts := []concurrency.STMOption{concurrency.WithMemory(m), concurrency.WithIsolation(level)}
			x, y, z := name+"/x", name+"/y", name+"/z"
			put(t, c, x, "1")

			a.costs(t, 3, sum(z, x, y), opts...) // two reads and the commit
			a.costs(t, 1, sum(z, x, y), opts...)
			a.costs(t, 1, sum(y, x, z), append(opts, concurrency.WithPrefetch(x, z))...)
			a.costs(t, 1, look(x, y, z), opts...)
			a.costs(t, 1, increment(x), opts...)
			a.costs(t, 1, increment(x), opts...)
			if got := value(t, c, x) + value(t, c, y) + value(t, c, z); got != "321" {
				t.Errorf("x, y and z are %s", got)
			}

			// That y and z are as they were when x became 3, nobody has said.
			want := int64(2)
			if level == concurrency.RepeatableReads {
				want = 1
			}
			a.costs(t, want, look(x, y, z), opts...)
			a.costs(t, 1, look(x, y, z), opts...)

			put(t, c, x, "10")
			once := concurrency.WithCallOptions(reprise.WithMaxAttempts(1))
			a.costs(t, 2, sum(z, x, y), append(opts, once)...) // a wrong guess is no conflict
			if got := value(t, c, z); got != "12" {
				t.Errorf("z is %s", got)
			}
			put(t, c, x, "20")
			seen := ""
			a.costs(t, 1, func(s concurrency.STM) error { seen = s.Get(x); return nil }, append(opts, once)...)
			if seen != "20" {
				t.Errorf("the reader saw %s", seen)
			}
		})
	}
}

func TestWhatATransactionDoesIsRemembered(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	a := countAnswers(t, c)
	lease, err := a.Grant(soon(t), 600)
	must(t, err)
	del := func(key string) func(concurrency.STM) error {
		return func(s concurrency.STM) error { s.Del(key); return nil }
	}
	set := func(key, value string, opts ...clientv3.OpOption) func(concurrency.STM) error {
		return func(s concurrency.STM) error { s.Put(key, value, opts...); return nil }
	}
	for name, test := range map[string]struct {
		first func(concurrency.STM) error
		costs int64 // of a reader and writer after it
	}{
		"a write":                        {set("k", "2"), 1},
		"a write with a lease":           {set("k", "2", clientv3.WithLease(lease.ID)), 1},
		"a deletion":                     {del("k"), 1},
		"a write that keeps the value":   {set("k", "", clientv3.WithIgnoreValue()), 2},
		"a write of nothing":             {set("k", ""), 1},
		"a write, then a deletion":       {func(s concurrency.STM) error { s.Put("k", "7"); s.Del("k"); return nil }, 1},
		"a read, then a write":           {func(s concurrency.STM) error { s.Get("k"); s.Put("k", "7"); return nil }, 1},
		"a read, and a value kept":       {func(s concurrency.STM) error { s.Get("k"); s.Put("k", "", clientv3.WithIgnoreValue()); return nil }, 2},
		"something else":                 {set("other", "2"), 2},
		"a read of what is not there":    {look("missing", "k"), 1},
		"a read of its revision":         {func(s concurrency.STM) error { s.Rev("k"); return nil }, 1},
		"a read of what it wrote":        {func(s concurrency.STM) error { s.Put("k", "3"); s.Get("k"); return nil }, 1},
		"a read of several at one time":  {func(s concurrency.STM) error { s.Get("a", "b", "k"); return nil }, 1},
		"a prefetch that was not needed": {func(s concurrency.STM) error { s.Get("a"); return nil }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			put(t, c, "k", "5")
			m := concurrency.WithMemory(concurrency.NewMemory(a.Client, 0))
			_, err := concurrency.NewSTM(a.Client, test.first, m, concurrency.WithPrefetch("k"), concurrency.WithIsolation(concurrency.Serializable))
			if name == "something else" || name == "a write that keeps the value" {
				m = concurrency.WithMemory(concurrency.NewMemory(a.Client, 0))
				_, err = concurrency.NewSTM(a.Client, test.first, m)
			}
			must(t, err)
			want, _ := strconv.Atoi(value(t, c, "k"))
			a.costs(t, test.costs, increment("k"), m)
			if got := value(t, c, "k"); got != strconv.Itoa(want+1) {
				t.Errorf("k is %s after %d", got, want)
			}
		})
	}
}

func TestWhatIsNotRememberedIsReadWithWhatIs(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	a := countAnswers(t, c)
	m := concurrency.WithMemory(concurrency.NewMemory(a.Client, 0))
	a.costs(t, 1, look("x"), m)
	a.costs(t, 1, look("x", "y1"), m) // the request for y1 also says that x is as it was
	a.costs(t, 2, sum("z", "x", "y2"), m)
	put(t, c, "x", "7")
	a.costs(t, 1, look("x", "y3"), m) // or brings what it is
	put(t, c, "x", "8")
	a.costs(t, 2, sum("z", "x", "y4"), m)
	if got := value(t, c, "z"); got != "8" {
		t.Errorf("z is %s", got)
	}
	a.costs(t, 2, sum("z", "x"), m, concurrency.WithPrefetch("x", "y5")) // one is missing: all are read
}

func TestReadCommittedRemembersNothing(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	a := countAnswers(t, c)
	m := concurrency.WithMemory(concurrency.NewMemory(a.Client, 0))
	weak := concurrency.WithIsolation(concurrency.ReadCommitted)
	a.costs(t, 2, increment("x"), m, weak)
	put(t, c, "x", "10")
	a.costs(t, 2, increment("x"), m, weak)
	if got := value(t, c, "x"); got != "11" {
		t.Errorf("x is %s", got)
	}
	a.costs(t, 2, increment("x"), m)
}

func TestAnAttemptOnWhatIsRememberedSeesOneRevisionToo(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	move := func(t *testing.T, n int) {
		v := strconv.Itoa(n)
		_, err := truth(t, c).Txn(soon(t)).Then(clientv3.OpPut("x", v), clientv3.OpPut("y", v)).Commit()
		must(t, err)
	}
	for name, level := range map[string]concurrency.Isolation{
		"serializable snapshot": concurrency.SerializableSnapshot, "serializable": concurrency.Serializable,
	} {
		t.Run(name, func(t *testing.T) {
			cli := newClient(t, c)
			opts := []concurrency.STMOption{
				concurrency.WithMemory(concurrency.NewMemory(cli, 0)), concurrency.WithIsolation(level),
			}
			do := func(apply func(concurrency.STM) error) {
				_, err := concurrency.NewSTM(cli, apply, append(opts, concurrency.WithAbortContext(soon(t)))...)
				must(t, err)
			}
			both := func(runs *[]string) func(s concurrency.STM) error {
				return func(s concurrency.STM) error {
					x, y := s.Get("x"), s.Get("y")
					if x != y {
						t.Errorf("x=%s and y=%s", x, y)
					}
					*runs = append(*runs, x)
					s.Put("z", x)
					return nil
				}
			}
			for _, order := range [][]string{{"x", "y"}, {"y", "x"}} {
				var runs []string
				move(t, 1)
				do(look(order[0]))
				move(t, 2)
				do(look(order[1])) // one remembered from before the move, one from after
				do(both(&runs))
				if last := runs[len(runs)-1]; last != "2" {
					t.Errorf("it committed %s", last)
				}
				move(t, 3)
				do(both(&runs)) // both remembered, both outdated
				if last := runs[len(runs)-1]; last != "3" || len(runs) < 3 {
					t.Errorf("it committed %s after %v", last, runs)
				}
			}
		})
	}
}

func TestWhatEndsTheFunctionIsConfirmedBeforeTheCallerHears(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	a := countAnswers(t, c)
	m := concurrency.WithMemory(concurrency.NewMemory(a.Client, 0))
	poor := errors.New("too poor")
	// buy ends in several ways if there is no money.
	buy := func(end func() error) func(s concurrency.STM) error {
		return func(s concurrency.STM) error {
			if n, _ := strconv.Atoi(s.Get("money")); n > 0 {
				s.Put("money", strconv.Itoa(n-1))
				return nil
			}
			return end()
		}
	}
	for name, end := range map[string]func() error{
		"error":  func() error { return poor },
		"panic":  func() error { panic(poor) },
		"Goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			put(t, c, "money", "1")
			a.costs(t, 2, buy(end), m) // on what was remembered, there was none
			if got := value(t, c, "money"); got != "0" {
				t.Errorf("%s left", got)
			}
			before := a.n.Load()
			got, returned := outcome(func() error {
				_, err := concurrency.NewSTM(a.Client, buy(end), m)
				return err
			})
			if name != "Goexit" && got != poor || returned != (name == "error") { //nolint:errorlint // the very error is promised
				t.Errorf("got %v, returned: %v", got, returned)
			}
			if n := a.n.Load() - before; n != 1 {
				t.Errorf("%d round trips", n)
			}
		})
	}
	t.Run("nobody can confirm it", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := concurrency.NewSTM(a.Client, buy(func() error { cancel(); return poor }), m, concurrency.WithAbortContext(ctx))
		if errors.Is(err, poor) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// outcome is what a function returned, or panicked with.
func outcome(f func() error) (got any, returned bool) {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() {
			if !returned {
				got = recover()
			}
		}()
		got = f()
		returned = true
	})
	wg.Wait()
	return got, returned
}

func TestAMemoryIsBounded(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	a := countAnswers(t, c)
	m := concurrency.WithMemory(concurrency.NewMemory(a.Client, 4*300))
	for i := range 10 {
		a.costs(t, 2, increment(fmt.Sprint("k", i)), m)
	}
	a.costs(t, 1, increment("k7"), m) // used again, and so the last to go
	a.costs(t, 1, increment("k9"), m)
	a.costs(t, 2, increment("k0"), m)
	a.costs(t, 1, increment("k7"), m)
	large := func(s concurrency.STM) error { s.Get("large"); s.Put("large", strings.Repeat("x", 2000)); return nil }
	a.costs(t, 2, large, m)
	a.costs(t, 2, large, m)
	a.costs(t, 2, increment("k7"), m)
}

func TestAMemoryIsOfOneClient(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := newClient(t, c)
	m := concurrency.NewMemory(newClient(t, c), 0)
	_, err := concurrency.NewSTM(cli, increment("x"), concurrency.WithMemory(m))
	if _, bad := errors.AsType[*reprise.ArgumentError](err); !bad {
		t.Errorf("got %v", err)
	}
	_, err = concurrency.NewSTM(cli, increment("x"), concurrency.WithMemory(nil))
	must(t, err)
}

func TestNoIncrementIsLostToAMemory(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			var wg sync.WaitGroup
			for range 2 {
				cli := newClient(t, c)
				m := concurrency.NewMemory(cli, 2*300) // they throw each other out of it
				for i := range 4 {
					wg.Go(func() {
						for range 20 {
							for _, key := range []string{name, fmt.Sprint(name, i%2)} {
								_, err := concurrency.NewSTM(cli, increment(key), concurrency.WithMemory(m),
									concurrency.WithIsolation(level), concurrency.WithAbortContext(within(t, 2*time.Minute)))
								if err != nil {
									t.Error(err)
								}
							}
						}
					})
				}
			}
			wg.Wait()
			if got := value(t, c, name) + " " + value(t, c, name+"0") + " " + value(t, c, name+"1"); got != "160 80 80" {
				t.Errorf("counted %s", got)
			}
		})
	}
}
