package concurrency_test

import (
	"context"
	"fmt"
	"log"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// example gives an example a client of a cluster of its own.
func example(run func(ctx context.Context, cli *clientv3.Client) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := etcdtest.Start(ctx)
	if err != nil {
		log.Println(err)
		return
	}
	defer func() { _ = c.Close() }()
	cli, err := etcdcall.New(c.Config())
	if err != nil {
		log.Println(err)
		return
	}
	defer func() { _ = cli.Close() }()
	if err := run(ctx, cli); err != nil {
		log.Println(err)
	}
}

func ExampleMutex() {
	example(func(ctx context.Context, cli *clientv3.Client) error {
		s, err := concurrency.NewSession(cli, concurrency.WithTTL(10))
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()

		m := concurrency.NewMutex(s, "/locks/report")
		if err := m.Lock(ctx); err != nil {
			return err
		}
		defer func() { _ = m.Unlock(ctx) }()

		// What is in the same etcd is guarded by the transaction.
		resp, err := cli.Txn(m.Ctx()).If(m.IsOwner()).Then(clientv3.OpPut("report", "done")).Commit()
		if err != nil {
			return err
		}
		fmt.Println("written:", resp.Succeeded)

		other := concurrency.NewMutex(s, "/locks/report")
		fmt.Println(other.TryLock(ctx))
		return nil
	})
	// Output:
	// written: true
	// mutex: locked by another holder
}

// disk is something outside of etcd that a lock guards.
type disk struct{ newest int64 }

func (d *disk) write(token int64) error {
	if token < d.newest {
		return fmt.Errorf("refused: somebody else has held the lock since")
	}
	d.newest = token
	return nil
}

func ExampleMutex_Token() {
	example(func(ctx context.Context, cli *clientv3.Client) error {
		s, err := concurrency.NewSession(cli)
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		d := new(disk)

		// A holder who is paused for so long that it loses the lock …
		paused := concurrency.NewMutex(s, "/locks/disk")
		if err := paused.Lock(ctx); err != nil {
			return err
		}
		token := paused.Token()
		if _, err := cli.Delete(ctx, paused.Key()); err != nil {
			return err
		}
		// … and another one who takes it meanwhile.
		next := concurrency.NewMutex(s, "/locks/disk")
		if err := next.Lock(ctx); err != nil {
			return err
		}
		fmt.Println("next holder:", d.write(next.Token()))
		fmt.Println("paused holder:", d.write(token))
		return nil
	})
	// Output:
	// next holder: <nil>
	// paused holder: refused: somebody else has held the lock since
}

func ExampleElection() {
	example(func(ctx context.Context, cli *clientv3.Client) error {
		s, err := concurrency.NewSession(cli, concurrency.WithTTL(10))
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()

		e := concurrency.NewElection(s, "/elections/scheduler")
		if err := e.Campaign(ctx, "node-1"); err != nil {
			return err
		}
		leader, err := e.Leader(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("%s leads, its term is fenced: %v\n", leader.Kvs[0].Value, e.Rev() > 0)
		if err := e.Resign(ctx); err != nil {
			return err
		}
		_, err = e.Leader(ctx)
		fmt.Println(err)
		return nil
	})
	// Output:
	// node-1 leads, its term is fenced: true
	// election: no leader
}

func ExampleElection_ObserveVacancy() {
	example(func(ctx context.Context, cli *clientv3.Client) error {
		s, err := concurrency.NewSession(cli)
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		e := concurrency.NewElection(s, "/elections/scheduler")
		watching, stop := context.WithCancel(ctx)
		defer stop()
		for state := range e.ObserveVacancy(watching) {
			if len(state.Kvs) > 0 {
				fmt.Printf("%s leads\n", state.Kvs[0].Value)
				return nil
			}
			fmt.Println("nobody leads")
			if err := e.Campaign(ctx, "node-1"); err != nil {
				return err
			}
		}
		return nil
	})
	// Output:
	// nobody leads
	// node-1 leads
}

func ExampleNewSTM() {
	example(func(ctx context.Context, cli *clientv3.Client) error {
		visit := func(s concurrency.STM) error {
			n, _ := strconv.Atoi(s.Get("visits"))
			s.Put("visits", strconv.Itoa(n+1))
			return nil
		}
		for range 3 {
			if _, err := concurrency.NewSTM(cli, visit, concurrency.WithAbortContext(ctx)); err != nil {
				return err
			}
		}
		resp, err := cli.Get(ctx, "visits")
		if err != nil {
			return err
		}
		fmt.Printf("%s visits\n", resp.Kvs[0].Value)
		return nil
	})
	// Output: 3 visits
}

func ExampleWithRegrant() {
	example(func(ctx context.Context, cli *clientv3.Client) error {
		s, err := concurrency.NewSession(cli, concurrency.WithRegrant())
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		epoch := s.Ctx()
		if _, err := cli.Revoke(ctx, s.Lease()); err != nil {
			return err
		}
		<-epoch.Done()
		m := concurrency.NewMutex(s, "/locks/report")
		if err := m.Lock(ctx); err != nil { // waits for the new lease
			return err
		}
		fmt.Println("epoch", s.Epoch())
		return m.Unlock(ctx)
	})
	// Output: epoch 2
}

func ExampleNewLocker() {
	example(func(_ context.Context, cli *clientv3.Client) error {
		s, err := concurrency.NewSession(cli)
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		l := concurrency.NewLocker(s, "/locks/report")
		l.Lock()
		fmt.Println("locked")
		l.Unlock()
		return nil
	})
	// Output: locked
}

func ExampleRWMutex() {
	example(func(ctx context.Context, cli *clientv3.Client) error {
		s, err := concurrency.NewSession(cli)
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		m := concurrency.NewRWMutex(s, "/locks/catalogue")
		for range 2 {
			if err := m.RLock(ctx); err != nil {
				return err
			}
		}
		fmt.Println("write:", m.TryLock(ctx))
		for range 2 {
			if err := m.RUnlock(ctx); err != nil {
				return err
			}
		}
		fmt.Println("write:", m.TryLock(ctx))
		return m.Unlock(ctx)
	})
	// Output:
	// write: mutex: locked by another holder
	// write: <nil>
}

func ExampleBarrier() {
	example(func(ctx context.Context, cli *clientv3.Client) error {
		b := concurrency.NewBarrier(cli, "/barriers/migration")
		if err := b.Hold(ctx); err != nil {
			return err
		}
		passed := make(chan error)
		go func() { passed <- concurrency.NewBarrier(cli, "/barriers/migration").Wait(ctx) }()
		fmt.Println("migrating")
		if err := b.Release(ctx); err != nil {
			return err
		}
		fmt.Println("passed:", <-passed)
		return nil
	})
	// Output:
	// migrating
	// passed: <nil>
}

func ExampleDoubleBarrier() {
	example(func(ctx context.Context, cli *clientv3.Client) error {
		s, err := concurrency.NewSession(cli)
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		const workers = 3
		done := make(chan error)
		for range workers {
			b := concurrency.NewDoubleBarrier(s, "/barriers/load-test", workers)
			go func() {
				if err := b.Enter(ctx); err != nil {
					done <- err
					return
				}
				// All of them work at the same time here.
				done <- b.Leave(ctx)
			}()
		}
		for range workers {
			if err := <-done; err != nil {
				return err
			}
		}
		fmt.Println("all began and ended together")
		return nil
	})
	// Output: all began and ended together
}
