package program_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/etcdcall/concurrency"
	"github.com/reprise-go/reprise/services"
)

// always restarts after every failure, soon at first.
func always() reprise.Retryer {
	return reprise.OnErrorFunc(reprise.Backoff{Initial: 50 * time.Millisecond, Max: time.Second},
		func(error) bool { return true })
}

// cache is a copy of the keys below a prefix.
type cache struct {
	services.Service

	cli    *clientv3.Client
	prefix string

	mu     sync.Mutex
	values map[string]string
}

// newCache makes a watch a service: it is ready while etcd is heard.
func newCache(cli *clientv3.Client, prefix string) *cache {
	c := &cache{cli: cli, prefix: prefix}
	c.Service = services.New(services.Config{Name: "cache", Run: c.run, Restart: always, ManualReady: true})
	return c
}

func (c *cache) run(ctx context.Context, status *services.Status) error {
	resp, err := c.cli.Get(ctx, c.prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	c.fill(resp)
	watch, err := etcdcall.NewWatch(ctx, c.cli, c.prefix, clientv3.WithPrefix(),
		clientv3.WithRev(resp.Header.Revision+1), clientv3.WithProgressNotify())
	if err != nil {
		return err
	}
	defer watch.Stop()
	status.Ready(nil)
	for {
		patience, cancel := context.WithTimeout(ctx, 3*time.Second)
		changes, err := watch.Next(patience)
		cancel()
		switch {
		case err == nil:
			c.apply(changes.Events)
			status.Ready(nil)
		case patience.Err() != nil && ctx.Err() == nil && watch.Err() == nil:
			status.Ready(errors.New("nothing heard from etcd for 3s"))
		default:
			return err
		}
	}
}

func (c *cache) fill(resp *clientv3.GetResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.values = make(map[string]string)
	for _, kv := range resp.Kvs {
		c.values[string(kv.Key)] = string(kv.Value)
	}
}

func (c *cache) apply(events []*clientv3.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ev := range events {
		if ev.Type == clientv3.EventTypeDelete {
			delete(c.values, string(ev.Kv.Key))
		} else {
			c.values[string(ev.Kv.Key)] = string(ev.Kv.Value)
		}
	}
}

func (c *cache) value(key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.values[key]
}

// newPresence makes a session a service: a key that exists while the instance
// lives. It is ready while the lease is kept, and begins anew when it is lost.
func newPresence(cli *clientv3.Client, key string) services.Service {
	return services.New(services.Config{
		Name: "presence", Restart: always, ManualReady: true,
		Run: func(ctx context.Context, status *services.Status) error {
			session, err := concurrency.NewSession(cli, concurrency.WithTTL(2))
			if err != nil {
				return err
			}
			defer session.Close()
			if _, err := cli.Put(session.Ctx(), key, "", clientv3.WithLease(session.Lease())); err != nil {
				return err
			}
			status.Ready(nil)
			select {
			case <-ctx.Done():
				return nil
			case <-session.Done():
				return context.Cause(session.Ctx())
			}
		},
	})
}

// newLeader makes a task that one instance runs at a time a service. The task
// must return soon after its context has ended. Followers are ready.
func newLeader(cli *clientv3.Client, key string, task func(ctx context.Context) error) services.Service {
	return services.New(services.Config{
		Name: "leader", Restart: always, ManualReady: true,
		Run: func(ctx context.Context, status *services.Status) error {
			session, err := concurrency.NewSession(cli, concurrency.WithTTL(2))
			if err != nil {
				return err
			}
			defer session.Close()
			stop := context.AfterFunc(session.Ctx(), func() { status.Ready(context.Cause(session.Ctx())) })
			defer stop()
			status.Ready(nil)
			lock := concurrency.NewMutex(session, key)
			if err := lock.Lock(ctx); err != nil {
				return err
			}
			// Ends when the lock is lost, and when the service is closed.
			leading, cancel := context.WithCancelCause(lock.Ctx())
			defer cancel(nil)
			defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
			return task(leading)
		},
	})
}

// newWeb serves the handler and tells its address when it listens.
func newWeb(handler http.Handler, listens func(addr string)) services.Service {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	return services.New(services.Config{
		Name: "web",
		Run: func(ctx context.Context, _ *services.Status) error {
			listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			listens(listener.Addr().String())
			served := make(chan error, 1)
			go func() { served <- server.Serve(listener) }()
			select {
			case err := <-served:
				return err
			case <-ctx.Done():
				return server.Shutdown(context.WithoutCancel(ctx))
			}
		},
	})
}
