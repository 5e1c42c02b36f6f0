package watch

import (
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise/etcdcall/internal/ending"
)

// Break is why a watch broke: what it asked for can no longer be had.
type Break struct {
	Reason Reason
	// Revision is the last one of which everything was received, 0 if the watch
	// ended before it began.
	Revision int64
	// CompactRevision is the first revision that can still be watched, if
	// Reason is Compacted.
	CompactRevision int64
	// Err is what the server or the transport said or, if Reason is Restored,
	// which revisions or cluster ids do not fit. It is nil if Reason is Compacted.
	Err error
}

// Reason is a kind of [Break].
type Reason int

const (
	// Refused is a watch that the server does not grant.
	Refused Reason = iota + 1
	// Compacted is a watch that needs revisions which the server has discarded.
	Compacted
	// Restored is a watch on a store that is no longer the one it was.
	Restored
)

// Why a stream of watches is given up.
const (
	errTokenStale = ending.GiveUpError("etcdcall: the token of the stream is no longer accepted")
	errNumbering  = ending.GiveUpError("etcdcall: the server numbers watches itself")
	errDropped    = ending.GiveUpError("etcdcall: the server dropped a watch without a reason")
)

// reasonError turns the text with which a server cancels a watch into an error.
// Some texts are whole gRPC errors, made to a string by the server.
func reasonError(reason string) error {
	if reason == "" {
		reason = "the server gave no reason"
	}
	if _, desc, ok := strings.Cut(reason, " desc = "); ok {
		reason = desc
	}
	err := rpctypes.Error(errors.New(reason))
	if _, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return err
	}
	return status.Error(codes.FailedPrecondition, reason)
}

// isTokenError reports whether err is cured by a new token.
func isTokenError(err error) bool {
	return errors.Is(err, rpctypes.ErrInvalidAuthToken) ||
		errors.Is(err, rpctypes.ErrAuthOldRevision) ||
		errors.Is(err, rpctypes.ErrUserEmpty)
}
