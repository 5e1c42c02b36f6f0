// Package concurrency coordinates processes through etcd: locks, elections,
// software transactions and barriers.
//
// It has the API of go.etcd.io/etcd/client/v3/concurrency: code written for that
// package compiles with the import path changed, and its locks and elections can
// share a prefix with those of that package while a program is moved over. The
// client may come from [github.com/reprise-go/reprise/etcdcall.New], which
// hears of dead links and lost leaders sooner, or from clientv3.New.
//
// A lock is taken, used and given back like this:
//
//	s, err := concurrency.NewSession(cli, concurrency.WithTTL(10))
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//
//	m := concurrency.NewMutex(s, "/locks/report")
//	if err := m.Lock(ctx); err != nil {
//		return err
//	}
//	defer m.Unlock(ctx)
//	return writeReport(m.Ctx(), m.Token())
//
// # What a lock is worth
//
// A lock over a network is a lease: whoever holds it may be paused or cut off,
// lose it, and go on believing in it for a moment. Two things make that safe, and
// both take the cooperation of what the lock guards. The context of [Mutex.Ctx]
// ends when the lock is lost, so that work under it stops; and the fencing token
// of [Mutex.Token] grows from holder to holder, so that a store that remembers
// the highest token it has seen can refuse a holder of the past. A write to the
// same etcd needs no token: guard its transaction with [Mutex.IsOwner].
// docs/locks.md tells the whole story.
//
// # What it is not for
//
// Locks between goroutines of one process (use package sync), and work so
// frequent that a round trip for each piece is too much.
package concurrency
