package concurrency_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/check"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// ledger records transactions that have committed.
type ledger struct {
	mu   sync.Mutex
	txns []check.Txn
}

// run makes a transaction and records what it has read and written.
func (l *ledger) run(cli *clientv3.Client, name string, apply func(concurrency.STM) error, opts ...concurrency.STMOption) error {
	txn := check.Txn{Began: time.Now()}
	resp, err := concurrency.NewSTM(cli, func(s concurrency.STM) error {
		txn.Reads, txn.Writes = make(map[string]check.Version), make(map[string]string)
		return apply(recorder{s, &txn})
	}, opts...)
	if err != nil {
		return err
	}
	txn.Ended = time.Now()
	if len(txn.Writes) > 0 {
		txn.Revision = resp.Header.Revision
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	txn.Name = fmt.Sprintf("%s %d", name, len(l.txns))
	l.txns = append(l.txns, txn)
	return nil
}

// recorder is an STM that notes what is done with it.
type recorder struct {
	concurrency.STM
	txn *check.Txn
}

func (r recorder) Get(keys ...string) string {
	value := r.STM.Get(keys...)
	if _, own := r.txn.Writes[keys[0]]; !own {
		r.txn.Reads[keys[0]] = check.Version{Revision: r.Rev(keys[0]), Value: value}
	}
	return value
}

func (r recorder) Put(key, value string, opts ...clientv3.OpOption) {
	r.txn.Writes[key] = value
	r.STM.Put(key, value, opts...)
}

// bank is accounts with money, and customers who move it about.
type bank struct {
	*etcdtest.Cluster
	ledger
	accounts, each int
}

func newBank(t *testing.T, members int) *bank {
	t.Helper()
	b := &bank{Cluster: etcdtest.New(t, etcdtest.WithMembers(members), etcdtest.WithTick(50*time.Millisecond, 500*time.Millisecond)), accounts: 5, each: 100}
	var opening []clientv3.Op
	for i := range b.accounts {
		opening = append(opening, clientv3.OpPut(account(i), strconv.Itoa(b.each)))
	}
	_, err := truth(t, b.Cluster).Txn(soon(t)).Then(opening...).Commit()
	must(t, err)
	return b
}

// work has customers transfer money, and others add it all up, until ctx ends.
// Every other one remembers.
func (b *bank) work(ctx *enough, t *testing.T, level concurrency.Isolation) *sync.WaitGroup {
	t.Helper()
	wg := new(sync.WaitGroup)
	for i := range 6 {
		cli, err := etcdcall.New(b.Config(), etcdcall.WithExactlyOnce(fmt.Sprintf("once/%d/", i)))
		must(t, err)
		t.Cleanup(func() { _ = cli.Close() })
		opts := []concurrency.STMOption{concurrency.WithIsolation(level), concurrency.WithAbortContext(ctx)}
		if i%2 == 0 {
			opts = append(opts, concurrency.WithMemory(concurrency.NewMemory(cli, 0)))
		}
		wg.Go(func() {
			for ctx.Err() == nil {
				if i%3 == 0 {
					b.audit(t, cli, level, opts)
				} else if b.run(cli, "transfer", transfer(rand.IntN(b.accounts), rand.IntN(b.accounts)), opts...) == nil {
					ctx.add()
				}
			}
		})
	}
	return wg
}

// audit adds up what is in all accounts.
func (b *bank) audit(t *testing.T, cli *clientv3.Client, level concurrency.Isolation, opts []concurrency.STMOption) {
	sum := 0
	err := b.run(cli, "audit", func(s concurrency.STM) error {
		sum = 0
		for i := range b.accounts {
			n, _ := strconv.Atoi(s.Get(account(i)))
			sum += n
		}
		return nil
	}, opts...)
	if err == nil && sum != b.accounts*b.each && level != concurrency.ReadCommitted {
		t.Errorf("somebody counted %d", sum)
	}
}

func account(i int) string { return "t/account/" + strconv.Itoa(i) }

func transfer(from, to int) func(concurrency.STM) error {
	return func(s concurrency.STM) error {
		if from == to {
			return nil
		}
		a, errA := strconv.Atoi(s.Get(account(from)))
		b, errB := strconv.Atoi(s.Get(account(to)))
		if errA != nil || errB != nil {
			return fmt.Errorf("no account: %w, %w", errA, errB)
		}
		s.Put(account(from), strconv.Itoa(a-1))
		s.Put(account(to), strconv.Itoa(b+1))
		return nil
	}
}

// TestABankConservesItsMoney has clients on a faulty cluster of three transfer
// money between accounts, and others add it all up. No money may come or go, and
// there must be an order of all that they did that explains what each has seen,
// and that agrees with the clock.
func TestABankConservesItsMoney(t *testing.T) {
	for name, level := range levels {
		t.Run(name, func(t *testing.T) {
			b := newBank(t, 3)
			ctx := newEnough(t, 60)
			wg := b.work(ctx, t, level)
			faults(ctx, t, b.Cluster)
			wg.Wait()
			ctx.check(t)
			log := history(t, b.Cluster)
			if err := check.Conserved(log, "t/account/", b.accounts*b.each); err != nil {
				t.Error(err)
			}
			if err := check.Serializable(log, b.txns); err != nil {
				t.Error(err)
			}
			t.Logf("%d transactions", len(b.txns))
		})
	}
	t.Run("read committed is caught", func(t *testing.T) {
		// It can happen that no two transfers meet. Not every time.
		for range 20 {
			b := newBank(t, 1)
			ctx := newEnough(t, 60)
			b.work(ctx, t, concurrency.ReadCommitted).Wait()
			log := history(t, b.Cluster)
			_, caught := errors.AsType[*check.NotSerializableError](check.Serializable(log, b.txns))
			if caught && check.Conserved(log, "t/account/", b.accounts*b.each) != nil {
				return
			}
		}
		t.Error("no money was lost, or an order was found")
	})
}

// TestNoTwoTransactionsBreakWhatEachKeeps has two transactions, each of which
// takes money from one account if both accounts together have enough, look at
// them at the same time.
func TestNoTwoTransactionsBreakWhatEachKeeps(t *testing.T) {
	t.Parallel()
	all := maps.Clone(levels)
	all["read committed"] = concurrency.ReadCommitted
	for name, level := range all {
		for _, remembering := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", remembering: ", remembering), func(t *testing.T) {
				t.Parallel()
				b := newBank(t, 1)
				one, other := newClient(t, b.Cluster), newClient(t, b.Cluster)
				limits := []concurrency.STMOption{concurrency.WithIsolation(level), concurrency.WithAbortContext(soon(t))}
				opts := limits
				if remembering {
					opts = append(opts[:2:2], concurrency.WithMemory(concurrency.NewMemory(one, 0)))
					must(t, b.run(one, "look", look(account(0), account(1)), opts...))
				}
				withdraw := func(from int, meanwhile func()) func(concurrency.STM) error {
					return func(s concurrency.STM) error {
						x, _ := strconv.Atoi(s.Get(account(0)))
						y, _ := strconv.Atoi(s.Get(account(1)))
						meanwhile()
						if x+y >= 200 {
							s.Put(account(from), "-100")
						}
						return nil
					}
				}
				second := sync.OnceFunc(func() {
					if err := b.run(other, "second", withdraw(1, func() {}), limits...); err != nil {
						t.Error(err)
					}
				})
				must(t, b.run(one, "first", withdraw(0, second), opts...))

				err := check.Serializable(history(t, b.Cluster), b.txns)
				skewed := value(t, b.Cluster, account(0)) == value(t, b.Cluster, account(1))
				if weak := level == concurrency.ReadCommitted; skewed != weak || (err != nil) != weak {
					t.Errorf("both took money: %v; the order: %v", skewed, err)
				}
			})
		}
	}
}

// TestSnapshotIsolationIsCaught makes transactions that compare only what they
// write, in place of what they read.
func TestSnapshotIsolationIsCaught(t *testing.T) {
	t.Parallel()
	b := newBank(t, 1)
	cli := newClient(t, b.Cluster)
	at, err := cli.Get(soon(t), account(0))
	must(t, err)
	opening := check.Version{Revision: at.Kvs[0].ModRevision, Value: strconv.Itoa(b.each)}
	for i := range 2 {
		began := time.Now()
		resp, err := cli.Txn(soon(t)).
			If(clientv3.Compare(clientv3.ModRevision(account(i)), "=", opening.Revision)).
			Then(clientv3.OpPut(account(i), "-100")).Commit()
		must(t, err)
		b.txns = append(b.txns, check.Txn{
			Name: fmt.Sprint("withdrawal ", i), Revision: resp.Header.Revision, Began: began, Ended: time.Now(),
			Reads: map[string]check.Version{account(0): opening, account(1): opening}, Writes: map[string]string{account(i): "-100"},
		})
	}
	b.txns[0].Ended = b.txns[1].Ended // they overlapped
	_, caught := errors.AsType[*check.NotSerializableError](check.Serializable(history(t, b.Cluster), b.txns))
	if !caught {
		t.Error("an order was found")
	}
}
