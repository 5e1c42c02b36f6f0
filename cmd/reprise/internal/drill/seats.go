package drill

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
	etcd "go.etcd.io/etcd/client/v3/concurrency"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
)

// sessionTTL is the time to live of sessions, in seconds: longer than any fault.
const sessionTTL = 10

// Sessions end when they are closed, not with the context of the contest: a
// turn under way is to be given back first.

// sitWithReprise makes a session of Reprise.
func sitWithReprise(ctx context.Context, cli *clientv3.Client, prefix string) (*seat, error) {
	s, err := concurrency.NewSession(cli, concurrency.WithTTL(sessionTTL), concurrency.WithContext(context.WithoutCancel(ctx)))
	if err != nil {
		return nil, err
	}
	return &seat{
		done: s.Done(), close: s.Close,
		lock:     &lock{concurrency.NewMutex(s, prefix)},
		election: &election{concurrency.NewElection(s, prefix)},
	}, nil
}

// sitWithClientv3 makes a session of clientv3.
func sitWithClientv3(ctx context.Context, cli *clientv3.Client, prefix string) (*seat, error) {
	s, err := etcd.NewSession(cli, etcd.WithTTL(sessionTTL), etcd.WithContext(context.WithoutCancel(ctx)))
	if err != nil {
		return nil, err
	}
	return &seat{
		done: s.Done(), close: s.Close,
		lock:     &lock{etcd.NewMutex(s, prefix)},
		election: &election{etcd.NewElection(s, prefix)},
	}, nil
}

// lock makes a contender of a mutex of either side.
type lock struct {
	mutex interface {
		Lock(ctx context.Context) error
		Unlock(ctx context.Context) error
		IsOwner() clientv3.Cmp
	}
}

func (l *lock) take(ctx context.Context, _ string) (clientv3.Cmp, error) {
	err := l.mutex.Lock(ctx)
	return l.mutex.IsOwner(), err
}

func (l *lock) release(ctx context.Context) error { return l.mutex.Unlock(ctx) }

// election makes a contender of an election of either side.
type election struct {
	election interface {
		Campaign(ctx context.Context, val string) error
		Resign(ctx context.Context) error
		Key() string
		Rev() int64
	}
}

func (e *election) take(ctx context.Context, name string) (clientv3.Cmp, error) {
	err := e.election.Campaign(ctx, name)
	return clientv3.Compare(clientv3.CreateRevision(e.election.Key()), "=", e.election.Rev()), err
}

func (e *election) release(ctx context.Context) error { return e.election.Resign(ctx) }
