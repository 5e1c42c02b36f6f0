package ending

import (
	"context"
	"errors"
	"testing"
)

func TestAnEndByTheContextMatchesItsErrorAndItsCause(t *testing.T) {
	t.Parallel()
	plain, cancel := context.WithCancel(t.Context())
	cancel()
	if err := OfContext(plain); err != context.Canceled { //nolint:errorlint // the plain error itself
		t.Errorf("without a cause: got %v", err)
	}
	why := errors.New("the reason")
	caused, cancelCause := context.WithCancelCause(t.Context())
	cancelCause(why)
	if err := OfContext(caused); !errors.Is(err, context.Canceled) || !errors.Is(err, why) || err.Error() != "context canceled: the reason" {
		t.Errorf("with a cause: got %v", err)
	}
	if err := OfContext(t.Context()); err != nil {
		t.Errorf("before the end: got %v", err)
	}
}
