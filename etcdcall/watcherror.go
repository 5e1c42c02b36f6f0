package etcdcall

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/reprise-go/reprise/etcdcall/internal/ending"
	"github.com/reprise-go/reprise/etcdcall/internal/watch"
)

var (
	// ErrStopped says that a watch or a keeper of a lease ended because its
	// Stop was called.
	ErrStopped = errors.New("etcdcall: stopped")
	// ErrClosed says that a watch or a keeper of a lease ended, or could not
	// begin, because its client was closed.
	ErrClosed = errors.New("etcdcall: the client is closed")
)

// WatchError says why a watch broke: what it asked for can no longer be had.
// A watch whose context ended or that was stopped has no WatchError.
//
// errors.Is matches it with the error of package rpctypes that has the same
// meaning, such as rpctypes.ErrCompacted or rpctypes.ErrPermissionDenied.
type WatchError struct {
	// Reason is the kind of the break.
	Reason WatchReason
	// Revision is the last one of which the watch has handed out everything.
	// It is 0 if the watch ended before it began.
	Revision int64
	// CompactRevision is the first revision that can still be watched, if
	// Reason is WatchCompacted.
	CompactRevision int64
	// Err is what the server or the transport said or, if Reason is
	// WatchRestored, which revisions or cluster ids do not fit. It is nil if
	// Reason is WatchCompacted.
	Err error
}

// WatchReason is a kind of [WatchError].
type WatchReason int

const (
	// WatchRefused is a watch that the server does not grant: no permission,
	// an empty range, a name and password that are wrong.
	WatchRefused WatchReason = iota + 1
	// WatchCompacted is a watch that needs revisions which the server has
	// discarded. Read the keys anew; [ListWatch] does that by itself.
	WatchCompacted
	// WatchRestored is a watch on a store that is no longer the one it was:
	// its revision went backwards or its cluster id changed, as after a
	// restore from a backup. What was read before may never have happened.
	WatchRestored
)

// String returns a word for the reason.
func (r WatchReason) String() string {
	switch r {
	case WatchRefused:
		return "refused"
	case WatchCompacted:
		return "compacted"
	case WatchRestored:
		return "restored"
	default:
		return fmt.Sprintf("WatchReason(%d)", int(r))
	}
}

// Error says where the watch broke and why.
func (e *WatchError) Error() string {
	var b strings.Builder
	b.WriteString("etcdcall: watch ")
	switch e.Reason {
	case WatchCompacted:
		fmt.Fprintf(&b, "fell behind: revisions before %d are compacted", e.CompactRevision)
	case WatchRestored:
		b.WriteString("found another history in the store")
	default:
		b.WriteString("broke")
	}
	if e.Revision > 0 {
		fmt.Fprintf(&b, " (complete up to revision %d)", e.Revision)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns Err, and rpctypes.ErrCompacted for a compaction.
func (e *WatchError) Unwrap() []error {
	var errs []error
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	if e.Reason == WatchCompacted {
		errs = append(errs, rpctypes.ErrCompacted)
	}
	return errs
}

// brokenWatch makes the error of a watch that broke.
func brokenWatch(b watch.Break) error {
	e := &WatchError{Revision: b.Revision, CompactRevision: b.CompactRevision, Err: b.Err}
	switch b.Reason {
	case watch.Refused:
		e.Reason = WatchRefused
	case watch.Compacted:
		e.Reason = WatchCompacted
	case watch.Restored:
		e.Reason = WatchRestored
	}
	return e
}

// resumable reports whether a stream that ended with err can be taken up again.
func resumable(err error) bool {
	return ending.GaveUp(err) || errors.Is(err, io.EOF) || classify(err).read == retry
}
