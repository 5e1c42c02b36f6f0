package etcdcall

import (
	"errors"
	"io"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise/etcdcall/internal/ending"
	"github.com/reprise-go/reprise/etcdcall/internal/watch"
)

func TestABreakOfAWatchHasAnErrorForEveryReason(t *testing.T) {
	t.Parallel()
	why := errors.New("why")
	for _, test := range []struct {
		broke watch.Break
		want  WatchError
		is    error
	}{
		{watch.Break{Reason: watch.Refused, Revision: 5, Err: why}, WatchError{Reason: WatchRefused, Revision: 5, Err: why}, why},
		{watch.Break{Reason: watch.Compacted, Revision: 5, CompactRevision: 8}, WatchError{Reason: WatchCompacted, Revision: 5, CompactRevision: 8}, rpctypes.ErrCompacted},
		{watch.Break{Reason: watch.Restored, Revision: 5, Err: why}, WatchError{Reason: WatchRestored, Revision: 5, Err: why}, why},
	} {
		err := brokenWatch(test.broke)
		if got, ok := errors.AsType[*WatchError](err); !ok || *got != test.want || !errors.Is(err, test.is) {
			t.Errorf("%+v: got %#v", test.broke, err)
		}
	}
}

func TestAStreamIsResumedUnlessItWasRefused(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		ending.ErrSilent, ending.ErrOrder, ending.GiveUpError("another"), io.EOF,
		rpctypes.ErrGRPCNoLeader, rpctypes.ErrGRPCStopped, rpctypes.ErrGRPCInvalidAuthToken,
		status.Error(codes.Unavailable, "reset"), status.Error(codes.Internal, "broken framing"),
	} {
		if !resumable(err) {
			t.Errorf("%v is final", err)
		}
	}
	for _, err := range []error{rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCAuthFailed, status.Error(codes.Unimplemented, "unknown service")} {
		if resumable(err) {
			t.Errorf("%v is not final", err)
		}
	}
}
