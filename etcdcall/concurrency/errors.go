package concurrency

import (
	"errors"
	"fmt"

	v3 "go.etcd.io/etcd/client/v3"
)

var (
	// ErrLocked is returned by TryLock when somebody else holds the lock.
	ErrLocked = errors.New("mutex: locked by another holder")

	// ErrSessionExpired is what [errors.Is] finds in every error that the end
	// of a session caused, whatever ended it; see [SessionError].
	ErrSessionExpired = errors.New("mutex: session is expired")

	// ErrLockReleased is returned by Unlock when the lock is not held, and
	// found by [errors.Is] in a [LostError].
	ErrLockReleased = errors.New("mutex: lock has already been released")

	// ErrElectionNotLeader is returned by what only the leader may do.
	ErrElectionNotLeader = errors.New("election: not leader")

	// ErrElectionNoLeader is returned by [Election.Leader] while nobody leads.
	ErrElectionNoLeader = errors.New("election: no leader")
)

// SessionReason says why a session, or one epoch of it, ended.
type SessionReason uint8

const (
	// SessionExpired means that the lease was not renewed in time, so that the
	// server may have let it expire.
	SessionExpired SessionReason = iota + 1
	// SessionRevoked means that the server does not know the lease any more,
	// though by the client's clock it had time left.
	SessionRevoked
	// SessionCanceled means that the context of WithContext, or that of the
	// client, has ended.
	SessionCanceled
	// SessionOrphaned means that Orphan was called.
	SessionOrphaned
	// SessionClosed means that Close was called.
	SessionClosed
)

var sessionReasons = [...]string{
	SessionExpired:  "expired",
	SessionRevoked:  "revoked",
	SessionCanceled: "canceled",
	SessionOrphaned: "orphaned",
	SessionClosed:   "closed",
}

// String returns the reason in one word.
func (r SessionReason) String() string {
	if int(r) < len(sessionReasons) && sessionReasons[r] != "" {
		return sessionReasons[r]
	}
	return fmt.Sprintf("SessionReason(%d)", uint8(r))
}

// SessionError reports that a session, or one epoch of it, is over. It is the
// cause of the session's context, see [Session.Ctx], and the error of what the
// session's end interrupted. errors.Is finds [ErrSessionExpired] in it.
type SessionError struct {
	// Lease is the lease that the session kept.
	Lease v3.LeaseID
	// Epoch counts the leases of the session, from 1; see [WithRegrant].
	Epoch int64
	// Reason is why it ended.
	Reason SessionReason
	// Err is what is known beyond that; it may be nil.
	Err error
}

// Error names the lease and says why it is not kept any more.
func (e *SessionError) Error() string {
	s := fmt.Sprintf("session: lease %x (epoch %d) %v", int64(e.Lease), e.Epoch, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns what else is known.
func (e *SessionError) Unwrap() error { return e.Err }

// Is reports whether target is ErrSessionExpired.
func (e *SessionError) Is(target error) bool { return target == ErrSessionExpired }

// LostError reports that a lock or a leadership was lost before its holder gave
// it up: its key is gone from the store, or the session has ended. It is the
// cause of the context that a holder works under, see [Mutex.Ctx], and the error
// of Unlock. errors.Is finds [ErrLockReleased] in it, and [ErrSessionExpired] if
// the session's end is the reason.
type LostError struct {
	// Key is the key that stood for the lock or leadership.
	Key string
	// Rev is the create revision of the key, which is the fencing token.
	Rev int64
	// Err is why it was lost.
	Err error
}

// Error names the key and says why it was lost.
func (e *LostError) Error() string {
	return fmt.Sprintf("concurrency: %s (token %d) was lost: %v", e.Key, e.Rev, e.Err)
}

// Unwrap returns why it was lost.
func (e *LostError) Unwrap() error { return e.Err }

// Is reports whether target is ErrLockReleased.
func (e *LostError) Is(target error) bool { return target == ErrLockReleased }

// errDeleted is the reason of a LostError whose key somebody deleted.
var errDeleted = errors.New("its key was deleted from the store")
