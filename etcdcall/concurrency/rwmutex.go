package concurrency

import (
	"context"

	v3 "go.etcd.io/etcd/client/v3"
)

// RWMutex is a lock that many processes hold for reading, or one for writing. It
// is fair: a writer waits for everybody who came before, a reader for the writers
// who came before, so that neither waits for ever.
//
// It keeps the promises of [Mutex] for each of its holders, and like that it is
// safe for concurrent use and not re-entrant: a holder who asks again behind a
// waiting writer waits for ever.
type RWMutex struct {
	s   *Session
	pfx string

	readers, writer holder
}

// The kinds of keys under the prefix of an RWMutex.
const (
	readKind  = "read/"
	writeKind = "write/"
)

// NewRWMutex returns the lock of the name pfx. Its keys lie under pfx + "/".
func NewRWMutex(s *Session, pfx string) *RWMutex {
	return &RWMutex{s: s, pfx: pfx + "/"}
}

// Lock takes the lock for writing, see [Mutex.Lock].
func (m *RWMutex) Lock(ctx context.Context) error {
	return m.lock(ctx, &m.writer, writeKind, "")
}

// TryLock takes the lock for writing if nobody holds it or waits for it, and
// returns ErrLocked otherwise, see [Mutex.TryLock].
func (m *RWMutex) TryLock(ctx context.Context) error {
	return m.tryLock(ctx, &m.writer, writeKind, "")
}

// Unlock gives back what Lock took, see [Mutex.Unlock].
func (m *RWMutex) Unlock(ctx context.Context) error { return m.writer.unlock(ctx) }

// RLock takes the lock for reading. One RWMutex may hold it several times.
func (m *RWMutex) RLock(ctx context.Context) error {
	return m.lock(ctx, &m.readers, readKind, writeKind)
}

// TryRLock takes the lock for reading if no writer holds it or waits for it, and
// returns ErrLocked otherwise.
func (m *RWMutex) TryRLock(ctx context.Context) error {
	return m.tryLock(ctx, &m.readers, readKind, writeKind)
}

// RUnlock gives back what one RLock took.
func (m *RWMutex) RUnlock(ctx context.Context) error { return m.readers.unlock(ctx) }

// Ctx returns a context to write under, see [Mutex.Ctx].
func (m *RWMutex) Ctx() context.Context { return m.writer.context() }

// RCtx returns a context to read under: that of the last RLock that is held.
func (m *RWMutex) RCtx() context.Context { return m.readers.context() }

// Token returns the fencing token of the writer, see [Mutex.Token].
func (m *RWMutex) Token() int64 { return m.writer.token() }

// IsOwner returns a comparison that is true in the store while this RWMutex holds
// the lock for writing, see [Mutex.IsOwner].
func (m *RWMutex) IsOwner() v3.Cmp { return m.writer.owner(m.pfx) }

func (m *RWMutex) lock(ctx context.Context, h *holder, kind, rivals string) error {
	t, err := m.s.alive(ctx)
	if err != nil {
		return err
	}
	c := m.s.claim(t, m.pfx, kind, rivals)
	if err := c.acquire(ctx, "", &h.busy); err != nil {
		return err
	}
	h.hold(c)
	return nil
}

func (m *RWMutex) tryLock(ctx context.Context, h *holder, kind, rivals string) error {
	t, err := m.s.alive(ctx)
	if err != nil {
		return err
	}
	c := m.s.claim(t, m.pfx, kind, rivals)
	if err := c.tryAcquire(ctx); err != nil {
		return err
	}
	h.hold(c)
	return nil
}
