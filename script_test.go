package reprise

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	errDown    = status.Error(codes.Unavailable, "down")
	errMissing = status.Error(codes.NotFound, "missing")
)

// script is a call that follows a list of results; the last one repeats. It
// records when each attempt began.
type script struct {
	results []error
	takes   time.Duration // how long each attempt takes

	began []time.Duration // since the first
	first time.Time
	seen  []int // AttemptFromContext
}

func (s *script) call(ctx context.Context, _ CallSettings) error {
	if s.first.IsZero() {
		s.first = time.Now()
	}
	s.began = append(s.began, time.Since(s.first))
	s.seen = append(s.seen, AttemptFromContext(ctx))
	if s.takes > 0 {
		if err := Sleep(ctx, s.takes); err != nil {
			return status.FromContextError(err).Err()
		}
	}
	return s.results[min(len(s.began), len(s.results))-1]
}

func failing(errs ...error) *script { return &script{results: errs} }

// steady is a Backoff without randomness.
func steady(d time.Duration) Backoff { return Backoff{Initial: d, Max: d, Jitter: JitterNone} }

func onDown(bo Backoff) CallOption {
	return WithRetry(func() Retryer { return OnUnavailable(bo) })
}

// bubble runs f in virtual time, in parallel with other tests.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// stopped returns err as an *Error, which it must be.
func stopped(t *testing.T, err error, want Reason) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got the error %v (%T), want an *Error", err, err)
	}
	if e.Reason != want {
		t.Fatalf("the call stopped because of %q, want %q: %v", e.Reason, want, err)
	}
	return e
}

func wantBegan(t *testing.T, s *script, want ...time.Duration) {
	t.Helper()
	if len(s.began) != len(want) {
		t.Fatalf("%d attempts at %v, want %d at %v", len(s.began), s.began, len(want), want)
	}
	for i := range want {
		if s.began[i] != want[i] {
			t.Errorf("attempt %d began at %v, want %v", i+1, s.began[i], want[i])
		}
	}
}

func wantElapsed(t *testing.T, since time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(since); got != want {
		t.Errorf("it took %v, want %v", got, want)
	}
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("the status of %q is %v, want %v", err, got, want)
	}
}
