package concurrency

import (
	"context"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// Mutex is a lock that processes hold one at a time, first come first served.
//
// Each holder has a key under the lock's prefix, bound to its session's lease;
// the oldest key is the holder's. So the lock of a process that died is free
// when its lease has expired. The create revision of the key is the fencing
// token, see [Mutex.Token].
//
// A Mutex is safe for concurrent use, and like a [sync.Mutex] it is not
// re-entrant: Lock waits for every other holder, also for one on the same
// session and on the same Mutex. (In clientv3 all handles of one session hold
// the lock together.)
type Mutex struct {
	s   *Session
	pfx string

	holder

	header atomic.Pointer[pb.ResponseHeader]
}

// NewMutex returns the lock of the name pfx. Its keys lie under pfx + "/".
func NewMutex(s *Session, pfx string) *Mutex {
	return &Mutex{s: s, pfx: pfx + "/"}
}

// Lock takes the lock, and waits for it as long as ctx and the session live. It
// costs one round trip if the lock is free. If it is not, Lock hears of its
// release by the store's own event, without asking again: one watch, which is kept for
// the next time, serves all who wait for the lock on one session. In the queue of a
// dozen sessions and more, a claim watches the two before it instead, and one read
// follows if the one before held the lock for more than 50 ms.
//
// If ctx ends, Lock returns its error at once, whatever state the connection is
// in, and the place in the queue is given up in the background. If the session
// ends, errors.Is finds ErrSessionExpired in what it returns. Failures of the
// cluster that may pass are ridden out; a lost response leaves neither a waiter
// that nobody owns nor a lock that nobody holds.
func (m *Mutex) Lock(ctx context.Context) error {
	t, err := m.s.alive(ctx)
	if err != nil {
		return err
	}
	c := m.s.claim(t, m.pfx, "", "")
	if err := c.acquire(ctx, "", &m.busy); err != nil {
		return err
	}
	m.take(c)
	return nil
}

// TryLock takes the lock if it is free and nobody waits for it, and returns
// ErrLocked otherwise. It costs one round trip, and writes nothing unless it
// takes the lock.
func (m *Mutex) TryLock(ctx context.Context) error {
	t, err := m.s.alive(ctx)
	if err != nil {
		return err
	}
	c := m.s.claim(t, m.pfx, "", "")
	if err := c.tryAcquire(ctx); err != nil {
		return err
	}
	m.take(c)
	return nil
}

// Unlock gives the lock back. It deletes the key of this holder and none that
// was created later under the same name.
//
// It returns ErrLockReleased if the lock is not held through this Mutex, and a
// [*LostError] if it was lost before. After any other error the lock is given
// back in the background, at the latest with the end of the session; Unlock may
// be called again to wait for that.
func (m *Mutex) Unlock(ctx context.Context) error {
	return m.unlock(ctx)
}

// Ctx returns a context to hold the lock under. It ends when the lock is
// unlocked or lost: at once when the key is deleted or the session ends, which
// is before the lease can have expired. Its cause is ErrLockReleased or a
// [*LostError]. If the lock is not held, it has ended already.
//
// The first call after each Lock begins to watch the holder's key, in the
// background.
func (m *Mutex) Ctx() context.Context { return m.context() }

// Token returns the fencing token of the holder: a number that grows from one
// holder of the lock to the next. Hand it to whatever the lock guards, and let
// that refuse a token smaller than one that it has seen. It is 0 if the lock is
// not held.
func (m *Mutex) Token() int64 { return m.token() }

// IsOwner returns a comparison that is true in the store while this Mutex holds
// the lock. A transaction guarded by it is not applied after the lock was lost.
// If the lock is not held, the comparison is never true.
func (m *Mutex) IsOwner() v3.Cmp { return m.owner(m.pfx) }

// Key returns the key that stands for the holder, or "" if the lock is not held.
func (m *Mutex) Key() string {
	if c := m.current(); c != nil {
		return c.key
	}
	return ""
}

// Header returns the response header of the last successful Lock or TryLock. Its
// revision is one at which the lock was held. It is nil before.
func (m *Mutex) Header() *pb.ResponseHeader { return m.header.Load() }

func (m *Mutex) take(c *claim) {
	m.header.Store(c.header)
	m.hold(c)
}
