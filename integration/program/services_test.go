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

	mu     sync.Mutex
	values map[string]string
}

// newCache makes a ListWatch a service: it is ready when it has seen the whole
// list. What happens while etcd is away it hears later, so it stays ready then.
func newCache(cli *clientv3.Client, prefix string) *cache {
	c := new(cache)
	c.Service = services.New(services.Config{
		Name: "cache", Restart: always, ManualReady: true,
		Run: func(ctx context.Context, status *services.Status) error {
			list, err := etcdcall.NewListWatch(ctx, cli, prefix, clientv3.WithPrefix())
			if err != nil {
				return err
			}
			c.apply(nil)
			for changes, err := range list.All() {
				if err != nil {
					return err
				}
				c.apply(changes.Events)
				if !changes.More {
					status.Ready(nil)
				}
			}
			return nil
		},
	})
	return c
}

// apply enters events into the copy; without any it begins anew.
func (c *cache) apply(events []*clientv3.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if events == nil || c.values == nil {
		c.values = make(map[string]string)
	}
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

// newFollower makes a watch a service that must not be behind: it is ready
// while something is heard from etcd, be it that nothing has changed.
func newFollower(cli *clientv3.Client, key string, changed func(*clientv3.Event)) services.Service {
	return services.New(services.Config{
		Name: "follower", Restart: always, ManualReady: true,
		Run: func(ctx context.Context, status *services.Status) error {
			watch, err := etcdcall.NewWatch(ctx, cli, key, clientv3.WithProgressNotify())
			if err != nil {
				return err
			}
			status.Ready(nil)
			for {
				patience, cancel := context.WithTimeout(ctx, 3*time.Second)
				changes, err := watch.Next(patience)
				cancel()
				switch {
				case err == nil:
					status.Ready(nil)
					for _, ev := range changes.Events {
						changed(ev)
					}
				case watch.Err() == nil && ctx.Err() == nil:
					status.Ready(errors.New("nothing heard from etcd for 3s"))
				default:
					return err
				}
			}
		},
	})
}

// newPresence makes a session a service: a key that exists while the instance
// lives. It is ready while the lease is kept, and begins anew when it is lost.
func newPresence(cli *clientv3.Client, key string) services.Service {
	return services.New(services.Config{
		Name: "presence", Restart: always, ManualReady: true,
		Run: func(ctx context.Context, status *services.Status) error {
			session, err := concurrency.NewSession(cli, concurrency.WithTTL(5))
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

// newLeader makes an election campaign a service: the task runs in one instance
// at a time, as long as it leads, and must return soon after its context has
// ended. Followers are ready.
func newLeader(cli *clientv3.Client, election, name string, task func(ctx context.Context) error) services.Service {
	return services.New(services.Config{
		Name: "leader", Restart: always, ManualReady: true,
		Run: func(ctx context.Context, status *services.Status) error {
			session, err := concurrency.NewSession(cli, concurrency.WithTTL(5))
			if err != nil {
				return err
			}
			defer session.Close() // gives the leadership to the next, after the task
			lost := context.AfterFunc(session.Ctx(), func() { status.Ready(context.Cause(session.Ctx())) })
			defer lost()
			status.Ready(nil)
			e := concurrency.NewElection(session, election)
			if err := e.Campaign(ctx, name); err != nil {
				return err
			}
			leading, cancel := context.WithCancelCause(e.Ctx())
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
