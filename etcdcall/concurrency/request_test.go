package concurrency

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
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
		for _, own := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				term := newTerm(t.Context(), 1, 1)
				call, giveUp := context.WithCancelCause(t.Context())
				defer giveUp(nil)
				ctx, release := term.bound(call)
				defer release()
				end, bounds := term.end, term.attempts
				if c.call {
					end = giveUp
				}
				if !own { // attempts that do not end with the term
					bounds = newAttempts()
				}
				if c.after == 0 {
					end(over)
				} else {
					time.AfterFunc(c.after, func() { end(over) })
				}
				began, attempts := time.Now(), 0
				_, err := repeatable(ctx, bounds, func(ctx context.Context) (int, error) {
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
	refused := func(context.Context) (int, error) {
		time.Sleep(2 * attemptTimeout)
		return 0, rpctypes.ErrPermissionDenied
	}
	for name, test := range map[string]struct {
		deadline time.Duration // of the call
		request  func(ctx context.Context) (int, error)
		timeout  bool
	}{
		"in the call's time":      {time.Second, hanging, false},
		"in the attempt's time":   {time.Minute, hanging, true},
		"until both were too old": {attemptTimeout + time.Second, refused, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), test.deadline)
			defer cancel()
			_, err := attempt(ctx, newAttempts(), test.request)
			overdue, timeout := errors.AsType[*reprise.AttemptTimeoutError](err)
			if err == nil || timeout != test.timeout {
				t.Errorf("not answered %s: got %v", name, err)
			}
			if timeout && (overdue.Timeout != attemptTimeout || status.Code(overdue.Err) != codes.Canceled) {
				t.Errorf("not answered %s: %v after %v", name, overdue.Err, overdue.Timeout)
			}
		})
	}
}

// TestARequestIsRepeatedThroughWhatMayPass has attempts end in turn as the case
// says, each of which costs the time beside it.
func TestARequestIsRepeatedThroughWhatMayPass(t *testing.T) {
	t.Parallel()
	type attempt func(ctx context.Context) (string, error)
	done := func(context.Context) (string, error) { return "done", nil }
	late := func(context.Context) (string, error) { time.Sleep(2 * attemptTimeout); return "late", nil }
	refused := func(context.Context) (string, error) {
		time.Sleep(2 * attemptTimeout)
		return "", rpctypes.ErrPermissionDenied
	}
	down := func(context.Context) (string, error) { return "", status.Error(codes.Unavailable, "down") }
	denied := func(context.Context) (string, error) { return "", rpctypes.ErrPermissionDenied }
	hang := func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", status.FromContextError(ctx.Err()).Err()
	}
	plain := func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
	for name, test := range map[string]struct {
		attempts []attempt
		want     string
		err      error
		took     time.Duration // without pauses
	}{
		"at once":                 {[]attempt{done}, "done", nil, 0},
		"an unknown outcome":      {[]attempt{down, down, done}, "done", nil, 0},
		"no answer":               {[]attempt{hang, hang, done}, "done", nil, 2 * attemptTimeout},
		"no answer, by clientv3":  {[]attempt{plain, done}, "done", nil, attemptTimeout},
		"an answer after its end": {[]attempt{late}, "late", nil, 2 * attemptTimeout},
		"a refusal after its end": {[]attempt{refused}, "", rpctypes.ErrPermissionDenied, 2 * attemptTimeout},
		"what does not pass":      {[]attempt{down, denied}, "", rpctypes.ErrPermissionDenied, 0},
		"until the caller's end":  {[]attempt{hang, down, hang, hang, hang, hang, hang}, "", context.Canceled, 22 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				time.AfterFunc(22*time.Second, cancel)
				n, began := 0, time.Now()
				got, err := repeatable(ctx, newAttempts(), func(ctx context.Context) (string, error) {
					if _, dated := ctx.Deadline(); dated {
						t.Error("a deadline travels with the request")
					}
					n++
					return test.attempts[min(n, len(test.attempts))-1](ctx)
				})
				if got != test.want || !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
					t.Errorf("got %q, %v", got, err)
				}
				if test.err == nil && n != len(test.attempts) {
					t.Errorf("%d attempts", n)
				}
				if took := time.Since(began); took < test.took || took > test.took+time.Second {
					t.Errorf("it took %v, want %v", took, test.took)
				}
			})
		})
	}
}
