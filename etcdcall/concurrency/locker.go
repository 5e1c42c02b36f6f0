package concurrency

import "sync"

// NewLocker returns the lock of the name pfx as a [sync.Locker], for code that
// takes one. Such code cannot be told that a lock was not taken, nor give up, so
// its Lock waits as long as the client lives and then panics, as that of
// clientv3 does: to return would be to let it go on without the lock. Unlock
// panics if the lock is not held, as that of [sync.Mutex] does; a lock that was
// lost or whose release goes on in the background is none of these. Prefer
// [Mutex].
func NewLocker(s *Session, pfx string) sync.Locker {
	return &locker{NewMutex(s, pfx)}
}

type locker struct{ m *Mutex }

// Lock implements sync.Locker.
func (l *locker) Lock() {
	if err := l.m.Lock(l.m.s.client.Ctx()); err != nil {
		panic(err)
	}
}

// Unlock implements sync.Locker.
func (l *locker) Unlock() {
	if err := l.m.Unlock(l.m.s.client.Ctx()); err == ErrLockReleased { //nolint:errorlint // a LostError is not meant
		panic(err)
	}
}
