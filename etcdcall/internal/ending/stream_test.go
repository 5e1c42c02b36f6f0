package ending

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestAStreamThatIsGivenUpEndsWithTheReason(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := OfStream(ctx, io.EOF); err != io.EOF || GaveUp(err) { //nolint:errorlint // the error itself
		t.Errorf("a stream that the server ended: got %v", err)
	}
	cancel(ErrSilent)
	if err := OfStream(ctx, context.Canceled); !errors.Is(err, ErrSilent) || errors.Is(err, ErrOrder) || !GaveUp(fmt.Errorf("wrapped: %w", err)) {
		t.Errorf("a stream that was given up: got %v", err)
	}
}
