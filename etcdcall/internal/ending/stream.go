package ending

import (
	"context"
	"errors"
)

// GiveUpError is why the client gives up a stream that the server has not ended, to
// open another. None reaches a user.
type GiveUpError string

const (
	// ErrSilent is a stream on which nothing comes any more.
	ErrSilent = GiveUpError("etcdcall: nothing heard from the server")
	// ErrOrder is a stream whose answers do not fit what was asked.
	ErrOrder = GiveUpError("etcdcall: an answer without a question")
)

// Error tells the reason.
func (e GiveUpError) Error() string { return string(e) }

// GaveUp reports whether a stream ended with err because the client gave it up.
func GaveUp(err error) bool {
	_, gaveUp := errors.AsType[GiveUpError](err)
	return gaveUp
}

// OfStream is why a stream under ctx ended with err: a client that gives one up says
// so by the cause of ctx.
func OfStream(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
