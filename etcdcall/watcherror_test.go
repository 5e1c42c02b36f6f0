package etcdcall

import (
	"errors"
	"io"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise/etcdcall/internal/ending"
)

func TestAReasonBecomesTheErrorThatItNames(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		reason string
		is     error // nil for one that rpctypes does not know
		token  bool
		text   string
	}{
		{"etcdserver: permission denied", rpctypes.ErrPermissionDenied, false, "etcdserver: permission denied"},
		{"rpc error: code = PermissionDenied desc = etcdserver: permission denied", rpctypes.ErrPermissionDenied, false, "etcdserver: permission denied"},
		{"etcdserver: invalid auth token", rpctypes.ErrInvalidAuthToken, true, "etcdserver: invalid auth token"},
		{"etcdserver: revision of auth store is old", rpctypes.ErrAuthOldRevision, true, "etcdserver: revision of auth store is old"},
		{"etcdserver: user name is empty", rpctypes.ErrUserEmpty, true, "etcdserver: user name is empty"},
		{"etcdserver: watch canceled", nil, false, "rpc error: code = FailedPrecondition desc = etcdserver: watch canceled"},
		{"", nil, false, "rpc error: code = FailedPrecondition desc = the server gave no reason"},
	} {
		err := reasonError(test.reason)
		if test.is != nil && !errors.Is(err, test.is) || isTokenError(err) != test.token || err.Error() != test.text {
			t.Errorf("%q: got %v, of the token: %v", test.reason, err, isTokenError(err))
		}
	}
}

func TestAStreamIsResumedUnlessItWasRefused(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		ending.ErrSilent, errTokenStale, errNumbering, ending.ErrOrder, errDropped, io.EOF,
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
