package etcdcall

import (
	"context"
	"time"

	"github.com/reprise-go/reprise"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errAttemptOver is what an attempt fails with that was cancelled for taking too long.
var errAttemptOver = status.Error(codes.DeadlineExceeded, "etcdcall: the attempt took too long")

// overdue returns the error of an attempt that was cancelled for taking too long
// under ctx. One that a server answered all the same has that answer.
func overdue(ctx context.Context, limit time.Duration, err error) error {
	if ctx.Err() != nil || status.Code(err) != codes.Canceled {
		return err
	}
	if failed, ok := err.(*attemptError); ok { //nolint:errorlint // it comes straight from attempt.end
		failed.raw = errAttemptOver
	} else {
		err = errAttemptOver
	}
	return &reprise.AttemptTimeoutError{Timeout: limit, Err: err}
}
