package concurrency

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise"
	"google.golang.org/grpc/status"
)

// hanging is a request that answers nothing until it is cancelled.
func hanging(ctx context.Context) (int, error) {
	<-ctx.Done()
	return 0, status.FromContextError(ctx.Err()).Err()
}

func TestARequestOfATermEndsWithItAndWithTheCall(t *testing.T) {
	t.Parallel()
	over := errors.New("over")
	for name, c := range map[string]struct {
		after    time.Duration
		call     bool // ends, not the term
		attempts int
	}{
		"term":                   {after: time.Second, attempts: 1},
		"call":                   {after: time.Second, attempts: 1, call: true},
		"term, later":            {after: attemptTimeout + time.Second, attempts: 2},
		"call, later":            {after: attemptTimeout + time.Second, attempts: 2, call: true},
		"term, before the start": {},
		"call, before the start": {call: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			term := newTerm(t.Context(), 1, 1)
			call, giveUp := context.WithCancelCause(t.Context())
			defer giveUp(nil)
			ctx, release := term.bound(call)
			defer release()
			end := term.end
			if c.call {
				end = giveUp
			}
			if c.after == 0 {
				end(over)
			} else {
				time.AfterFunc(c.after, func() { end(over) })
			}
			began, attempts := time.Now(), 0
			_, err := repeatable(ctx, term.attempts, func(ctx context.Context) (int, error) {
				attempts++
				return hanging(ctx)
			})
			if took := time.Since(began); took != c.after || err == nil || attempts != c.attempts {
				t.Errorf("%s: ended after %v, want %v, in %d attempts, with %v", name, took, c.after, attempts, err)
			}
			if got := context.Cause(ctx); !errors.Is(got, over) {
				t.Errorf("%s: the cause is %v", name, got)
			}
		})
	}
}

func TestARequestThatGoesUnansweredIsSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, attempts := time.Now(), 0
		got, err := repeatable(t.Context(), newAttempts(), func(ctx context.Context) (int, error) {
			if attempts++; attempts < 3 {
				return hanging(ctx)
			}
			return attempts, nil
		})
		if took := time.Since(began); err != nil || got != 3 || took < 2*attemptTimeout || took > 2*attemptTimeout+time.Second {
			t.Errorf("got %d, %v after %v", got, err, took)
		}
	})
	for _, deadline := range []time.Duration{time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			_, err := attempt(ctx, newAttempts(), hanging)
			if _, timeout := errors.AsType[*reprise.AttemptTimeoutError](err); err == nil || timeout != (deadline > attemptTimeout) {
				t.Errorf("under %v: got %v", deadline, err)
			}
		})
	}
}
