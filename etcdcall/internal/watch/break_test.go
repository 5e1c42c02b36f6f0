package watch

import (
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
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
