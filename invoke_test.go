package reprise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestInvokeRetriesUntilSuccess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := failing(errDown, errDown, nil)
		if err := Invoke(t.Context(), s.call, onDown(steady(time.Second))); err != nil {
			t.Fatal(err)
		}
		wantBegan(t, s, 0, time.Second, 2*time.Second)
		if want := []int{1, 2, 3}; !slices.Equal(s.seen, want) {
			t.Errorf("AttemptFromContext said %v, want %v", s.seen, want)
		}
	})
}

func TestInvokeWithoutRetryMakesOneAttempt(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]CallOption{
		"no options":          nil,
		"nil factory":         {WithRetry(nil)},
		"factory returns nil": {WithRetry(func() Retryer { return nil })},
		"switched off later":  {onDown(Backoff{}), WithRetry(nil)},
	} {
		s := failing(errDown)
		if err := Invoke(t.Context(), s.call, opts...); err != errDown { //nolint:errorlint // the very error is promised
			t.Errorf("%s: got %v, want the attempt's own error", name, err)
		}
		if len(s.began) != 1 {
			t.Errorf("%s: %d attempts, want 1", name, len(s.began))
		}
	}
}

func TestDeclinedErrorComesBackAsItIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		wrapped := fmt.Errorf("lookup: %w", errMissing)
		for _, results := range [][]error{{wrapped}, {errDown, wrapped}} {
			err := Invoke(t.Context(), failing(results...).call, onDown(steady(1)), WithTimeout(time.Second))
			if err != wrapped { //nolint:errorlint // the very error is promised
				t.Errorf("after %v: got %v, want the same value", results, err)
			}
		}
	})
}

func TestRetryerSeesTheRawErrorAndEachCallHasItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		made := 0
		var seen []error
		opt := WithRetry(func() Retryer {
			made++
			return RetryerFunc(func(err error) (time.Duration, bool) {
				seen = append(seen, err)
				return 0, true
			})
		})
		raw := errors.New("raw")
		for range 3 {
			if err := Invoke(t.Context(), failing(raw, nil).call, opt); err != nil {
				t.Fatal(err)
			}
		}
		if err := Invoke(t.Context(), failing(nil).call, opt); err != nil {
			t.Fatal(err)
		}
		if made != 3 {
			t.Errorf("%d Retryers for 3 failing calls and one that succeeds at once", made)
		}
		for _, err := range seen {
			if err != raw { //nolint:errorlint // the very error is promised
				t.Errorf("the Retryer saw %v", err)
			}
		}
	})
}

func TestEachRetryerHasItsOwnCopyOfTheBackoff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		bo := Backoff{Initial: time.Second, Max: time.Minute, Jitter: JitterNone}
		opt := onDown(bo)
		for range 2 {
			s := failing(errDown, errDown, nil)
			if err := Invoke(t.Context(), s.call, opt); err != nil {
				t.Fatal(err)
			}
			wantBegan(t, s, 0, time.Second, 3*time.Second)
		}
	})
}

func TestDeadlineEndsTheCallInsteadOfThePause(t *testing.T) {
	for name, test := range map[string]struct {
		parent, timeout, pause time.Duration
		attempts               []time.Duration
		took                   time.Duration
	}{
		"the pause would cross the deadline": {10 * time.Second, 0, 4 * time.Second, []time.Duration{0, 4 * time.Second, 8 * time.Second}, 8 * time.Second},
		"the pause would end at it":          {8 * time.Second, 0, 4 * time.Second, []time.Duration{0, 4 * time.Second}, 4 * time.Second},
		"WithTimeout alone":                  {0, 6 * time.Second, 4 * time.Second, []time.Duration{0, 4 * time.Second}, 4 * time.Second},
		"WithTimeout below the parent's":     {time.Hour, 6 * time.Second, 4 * time.Second, []time.Duration{0, 4 * time.Second}, 4 * time.Second},
		"the parent's below WithTimeout":     {6 * time.Second, time.Hour, 4 * time.Second, []time.Duration{0, 4 * time.Second}, 4 * time.Second},
		"a pause of ages":                    {time.Second, 0, 1<<63 - 1, []time.Duration{0}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := t.Context()
				if test.parent > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.parent)
					defer cancel()
				}
				s, begin := failing(errDown), time.Now()
				err := Invoke(ctx, s.call, onDown(steady(test.pause)), WithTimeout(test.timeout))
				e := stopped(t, err, ReasonDeadline)
				wantElapsed(t, begin, test.took)
				wantBegan(t, s, test.attempts...)
				wantCode(t, err, codes.DeadlineExceeded)
				if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errDown) {
					t.Errorf("%v does not match both the deadline and the last error", err)
				}
				if e.Made != len(test.attempts) || e.Err != errDown { //nolint:errorlint // the very error is promised
					t.Errorf("Made = %d, Err = %v", e.Made, e.Err)
				}
				if ctx.Err() != nil {
					t.Error("the context has ended: the call did not return early")
				}
			})
		})
	}
}

func TestDeadlineDuringAnAttemptKeepsTheErrorBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		calls := 0
		err := Invoke(t.Context(), func(ctx context.Context, _ CallSettings) error {
			if calls++; calls == 1 {
				return errDown
			}
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		}, onDown(steady(time.Second)), WithTimeout(3*time.Second))
		e := stopped(t, err, ReasonDeadline)
		if e.Made != 2 || e.Attempts[0].Err != errDown { //nolint:errorlint // the very error is promised
			t.Errorf("the history is %+v, want both attempts", e.Attempts)
		}
		wantCode(t, err, codes.DeadlineExceeded)
	})
}

func TestCancellationEndsThePauseAndKeepsTheCause(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cause := errors.New("the user went away")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(1500*time.Millisecond, func() { cancel(cause) })
		s, begin := failing(errDown), time.Now()
		err := Invoke(ctx, s.call, onDown(steady(time.Second)))
		e := stopped(t, err, ReasonCanceled)
		wantElapsed(t, begin, 1500*time.Millisecond)
		wantBegan(t, s, 0, time.Second)
		for _, want := range []error{cause, context.Canceled, errDown} {
			if !errors.Is(err, want) {
				t.Errorf("%q does not match %q", err, want)
			}
		}
		if e.Cause != cause { //nolint:errorlint // the very error is promised
			t.Errorf("the cause is %v", e.Cause)
		}
		wantCode(t, err, codes.Canceled)
	})
}

func TestNoAttemptIsMadeOnADeadContext(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	unary := NewUnary(echo)
	for range 100 { // chance must have no part in it
		for _, test := range []struct {
			ctx    context.Context //nolint:containedctx // a table
			reason Reason
		}{{canceled, ReasonCanceled}, {expired, ReasonDeadline}} {
			s := failing(nil)
			e := stopped(t, Invoke(test.ctx, s.call), test.reason)
			if len(s.began) != 0 || e.Made != 0 || e.Err != nil || len(e.Attempts) != 0 {
				t.Fatalf("an attempt was made: %+v", e)
			}
			_, err := unary.Call(test.ctx, &ping{})
			stopped(t, err, test.reason)
			_, err = Do(test.ctx, func(context.Context) (int, error) { t.Fatal("called"); return 0, nil })
			stopped(t, err, test.reason)
		}
	}
}

func TestContextThatDiesDuringTheLastPauseMakesNoAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		// Timer and cancellation are due at the same instant.
		for range 50 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			s := failing(errDown)
			s.takes = 0
			err := Invoke(ctx, func(ctx context.Context, cs CallSettings) error {
				if ctx.Err() != nil {
					t.Error("attempt on a dead context")
				}
				return s.call(ctx, cs)
			}, onDown(steady(time.Second)), WithMaxAttempts(2))
			if e, ok := errors.AsType[*Error](err); !ok || e.Reason != ReasonCanceled && e.Reason != ReasonAttempts {
				t.Errorf("got %v", err)
			}
			cancel()
		}
	})
}

func TestMaxAttemptsCountsTheFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for n := 1; n <= 4; n++ {
			s := failing(errDown)
			err := Invoke(t.Context(), s.call, onDown(steady(time.Second)), WithMaxAttempts(n))
			e := stopped(t, err, ReasonAttempts)
			if len(s.began) != n || e.Made != n {
				t.Errorf("WithMaxAttempts(%d): %d attempts, Made = %d", n, len(s.began), e.Made)
			}
			if s.began[n-1] != time.Duration(n-1)*time.Second {
				t.Errorf("a pause after the last attempt")
			}
			wantCode(t, err, codes.Unavailable)
			if errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errDown) {
				t.Errorf("%v matches the wrong errors", err)
			}
		}
	})
}

func TestZeroAndNegativeLimitsAreNone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, opts := range [][]CallOption{
			{WithMaxAttempts(0)}, {WithMaxAttempts(-1)}, {WithMaxAttempts(1), WithMaxAttempts(0)},
			{WithTimeout(0)}, {WithTimeout(-time.Second)}, {WithTimeout(1), WithTimeout(0)},
			{WithAttemptTimeout(0)}, {WithAttemptTimeout(-1)}, {WithMaxElapsed(0)}, {WithMaxElapsed(-1)},
			{WithMaxElapsed(1), WithMaxElapsed(0)}, {WithThrottle(refuser{}), WithThrottle(nil)},
		} {
			s := failing(errDown, errDown, errDown, nil)
			if err := Invoke(t.Context(), s.call, append(opts, onDown(steady(time.Second)))...); err != nil {
				t.Error(err)
			}
		}
	})
}

type refuser struct{}

func (refuser) Admit(int) bool { return false }
func (refuser) Done(bool)      {}

func TestMaxElapsedEndsTheRetryingAndCutsNoAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, begin := failing(errDown), time.Now()
		s.takes = 3 * time.Second
		err := Invoke(t.Context(), s.call, onDown(steady(time.Second)), WithMaxElapsed(8*time.Second))
		e := stopped(t, err, ReasonElapsed)
		// Attempts from 0 to 3, 4 to 7; the next would begin at 8.
		wantBegan(t, s, 0, 4*time.Second)
		wantElapsed(t, begin, 7*time.Second)
		wantCode(t, err, codes.Unavailable)
		for i, a := range e.Attempts {
			if a.Duration != 3*time.Second || a.Start.Sub(begin) != s.began[i] {
				t.Errorf("record %d is %+v", i, a)
			}
		}
		// An attempt that outlasts the limit may still succeed.
		s = failing(nil)
		s.takes = time.Minute
		if err := Invoke(t.Context(), s.call, WithMaxElapsed(time.Second)); err != nil {
			t.Error(err)
		}
	})
}

func TestAttemptTimeoutBoundsEachAttempt(t *testing.T) {
	hang := func(ctx context.Context, _ CallSettings) error {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	bubble(t, func(t *testing.T) {
		// OnCodes retries it only if DEADLINE_EXCEEDED is listed.
		begin := time.Now()
		err := Invoke(t.Context(), hang, onDown(steady(time.Second)), WithAttemptTimeout(2*time.Second))
		timeout, ok := errors.AsType[*AttemptTimeoutError](err)
		if !ok || timeout.Timeout != 2*time.Second || status.Code(timeout.Err) != codes.DeadlineExceeded {
			t.Fatalf("got %v", err)
		}
		wantCode(t, err, codes.DeadlineExceeded)
		wantElapsed(t, begin, 2*time.Second)

		for name, fn := range map[string]func() Retryer{
			"listed":           func() Retryer { return OnCodes([]codes.Code{codes.DeadlineExceeded}, steady(time.Second)) },
			"OnAttemptTimeout": func() Retryer { return OnAttemptTimeout(OnUnavailable(steady(time.Second))) },
		} {
			begin = time.Now()
			err = Invoke(t.Context(), hang, WithRetry(fn), WithAttemptTimeout(2*time.Second), WithMaxAttempts(3))
			stopped(t, err, ReasonAttempts)
			if got := time.Since(begin); got != 8*time.Second {
				t.Errorf("%s: 3 attempts of 2 s and 2 pauses of 1 s took %v", name, got)
			}
		}

		// What is left of the call's own time is less: then it is the
		// call's deadline that passed, not the attempt's.
		begin = time.Now()
		err = Invoke(t.Context(), hang, WithRetry(func() Retryer { return OnAttemptTimeout(nil) }),
			WithAttemptTimeout(2*time.Second), WithTimeout(time.Second))
		if e := stopped(t, err, ReasonDeadline); errors.As(e.Err, new(*AttemptTimeoutError)) {
			t.Errorf("the attempt's time is blamed: %v", e.Err)
		}
		wantElapsed(t, begin, time.Second)
	})
}

// gRPC compares deadlines with the clock, and may be ahead of the timers.
func TestADeadlineCountsAheadOfTheContextsTimer(t *testing.T) {
	t.Parallel()
	late := status.Error(codes.DeadlineExceeded, "says the transport")
	declining := WithRetry(func() Retryer { return OnCodes([]codes.Code{codes.Unavailable}, Backoff{}) })
	ctx := aheadOfTimer{t.Context(), time.Now()}
	err := Invoke(ctx, failing(late).call, declining)
	var stopped *Error
	if !errors.As(err, &stopped) || stopped.Reason != ReasonDeadline || stopped.Err != late || //nolint:errorlint // the very error
		!errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline with the error of the attempt", err)
	}
	ctx.deadline = time.Now().Add(time.Hour)
	if err := Invoke(ctx, failing(late).call, declining); err != late { //nolint:errorlint // the very error is promised
		t.Errorf("with an hour left: got %v, want the attempt's own error", err)
	}
}

// aheadOfTimer is a context whose timer never fires.
type aheadOfTimer struct {
	context.Context
	deadline time.Time
}

func (c aheadOfTimer) Deadline() (time.Time, bool) { return c.deadline, true }

func TestAttemptTimeoutLeavesAnswersAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, test := range []struct {
			err   error
			wraps bool
		}{
			{errMissing, false},
			{status.Error(codes.Canceled, ""), true},
			{errDown, true},
			{errors.New("i/o timeout"), true},
			{context.DeadlineExceeded, true},
		} {
			err := Invoke(t.Context(), func(ctx context.Context, _ CallSettings) error {
				<-ctx.Done()
				return test.err
			}, WithAttemptTimeout(time.Second))
			_, wrapped := errors.AsType[*AttemptTimeoutError](err)
			if wrapped != test.wraps || !errors.Is(err, test.err) {
				t.Errorf("%v late: got %v", test.err, err)
			}
		}
		// An error in time is not the timeout's, whatever it says.
		err := Invoke(t.Context(), failing(context.DeadlineExceeded).call, WithAttemptTimeout(time.Second))
		if err != context.DeadlineExceeded { //nolint:errorlint // the very error is promised
			t.Errorf("got %v", err)
		}
	})
}

func TestHistoryKeepsTheFirstAndTheLast(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, n := range []int{1, 7, 8, 9, 15, 16, 30} {
			err := Invoke(t.Context(), failing(errDown).call, onDown(steady(time.Second)), WithMaxAttempts(n))
			e := stopped(t, err, ReasonAttempts)
			var got []int
			for _, a := range e.Attempts {
				got = append(got, a.Number)
				if a.Err != errDown || a.Pause != time.Second { //nolint:errorlint // the very error is promised
					t.Errorf("record %+v", a)
				}
			}
			want := []int{1}
			for i := max(2, n-6); i <= n; i++ {
				want = append(want, i)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d attempts: records of %v, want %v", n, got, want)
			}
		}
	})
}

func TestAttemptNumberGoesOutAsMetadata(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "user", "alice")
		var got []string
		err := Invoke(ctx, func(ctx context.Context, _ CallSettings) error {
			md, _ := metadata.FromOutgoingContext(ctx)
			got = append(got, fmt.Sprint(md["user"], md[attemptsHeader]))
			return errDown
		}, onDown(steady(1)), WithMaxAttempts(3))
		stopped(t, err, ReasonAttempts)
		want := []string{"[alice] []", "[alice] [1]", "[alice] [2]"}
		if !slices.Equal(got, want) {
			t.Errorf("the metadata were %q, want %q", got, want)
		}
		// Without metadata of the caller's own.
		calls := 0
		_ = Invoke(t.Context(), func(ctx context.Context, _ CallSettings) error {
			md, ok := metadata.FromOutgoingContext(ctx)
			if calls++; ok != (calls > 1) || len(md[attemptsHeader]) != calls-1 {
				t.Errorf("attempt %d: %v", calls, md)
			}
			return errDown
		}, onDown(steady(1)), WithMaxAttempts(2))
	})
}

func TestNestedCallsCountTheirOwnAttempts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		twice := []CallOption{onDown(steady(1)), WithMaxAttempts(2)}
		u := NewUnary(func(ctx context.Context, _ *ping, _ ...grpc.CallOption) (*ping, error) {
			return &ping{AttemptFromContext(ctx)}, errDown
		}, twice...)
		var inner []int
		look := func(ctx context.Context) {
			md, _ := metadata.FromOutgoingContext(ctx)
			inner = append(inner, AttemptFromContext(ctx), len(md[attemptsHeader]))
		}
		_ = Invoke(t.Context(), func(ctx context.Context, _ CallSettings) error {
			_ = Invoke(ctx, func(ctx context.Context, _ CallSettings) error { look(ctx); return errDown }, twice...)
			_, _ = Do(ctx, func(ctx context.Context) (int, error) { look(ctx); return 0, errDown }, append(twice, WithTimeout(time.Hour))...)
			resp, err := u.Call(ctx, &ping{})
			inner = append(inner, resp.n)
			return err
		}, twice...)
		want := []int{1, 0, 2, 1, 1, 0, 2, 1, 2, 1, 0, 2, 1, 1, 0, 2, 1, 2}
		if !slices.Equal(inner, want) {
			t.Errorf("inner attempts and headers %v, want %v", inner, want)
		}
	})
}

func TestDoReturnsWhatTheLastAttemptReturned(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var numbers []int
		got, err := Do(t.Context(), func(ctx context.Context) (string, error) {
			n := AttemptFromContext(ctx)
			numbers = append(numbers, n)
			if n < 3 {
				return "partial", errDown
			}
			return "whole", nil
		}, onDown(steady(time.Second)))
		if got != "whole" || err != nil || !slices.Equal(numbers, []int{1, 2, 3}) {
			t.Errorf("got %q, %v after attempts %v", got, err, numbers)
		}
		partial, err := Do(t.Context(), func(context.Context) (int, error) { return 7, errMissing })
		if partial != 7 || err != errMissing { //nolint:errorlint // the very error is promised
			t.Errorf("got %d, %v", partial, err)
		}
	})
}

func TestNilArgumentsGiveErrorsNotPanics(t *testing.T) {
	t.Parallel()
	ok := func(context.Context, CallSettings) error { return nil }
	var nilUnary *Unary[ping, ping]
	var nilCtx context.Context
	for name, call := range map[string]func() error{
		"Invoke: the call is nil":           func() error { return Invoke(t.Context(), nil) },
		"Invoke: the context is nil":        func() error { return Invoke(nilCtx, ok) },
		"Do: the call is nil":               func() error { _, err := Do[int](t.Context(), nil); return err },
		"Do: the context is nil":            func() error { _, err := Do(nilCtx, func(context.Context) (int, error) { return 0, nil }); return err },
		"Sleep: the context is nil":         func() error { return Sleep(nilCtx, 0) },
		"Unary.Call: the stub is nil":       func() error { _, err := NewUnary[ping, ping](nil).Call(t.Context(), nil); return err },
		"Unary.Call: the context is nil":    func() error { _, err := NewUnary(echo).Call(nilCtx, nil); return err },
		"Unary.Call: the stub is nil (nil)": func() error { _, err := nilUnary.Call(t.Context(), nil); return err },
	} {
		err := call()
		if _, ok := errors.AsType[*ArgumentError](err); !ok {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if want := "reprise: " + name; err.Error() != want && err.Error()+" (nil)" != want {
			t.Errorf("got %q, want %q", err, want)
		}
		wantCode(t, err, codes.InvalidArgument)
	}
	if err := Invoke(t.Context(), ok, nil, nil); err != nil {
		t.Errorf("nil options: %v", err)
	}
	if n := AttemptFromContext(nilCtx); n != 1 {
		t.Errorf("AttemptFromContext(nil) = %d", n)
	}
}

func TestForeignRetryerWithOddPauses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := failing(errDown, nil)
		err := Invoke(t.Context(), s.call, WithRetry(func() Retryer {
			return RetryerFunc(func(error) (time.Duration, bool) { return -time.Hour, true })
		}), WithTimeout(time.Second))
		if err != nil {
			t.Error(err)
		}
		wantBegan(t, s, 0, 0)
		err = Invoke(t.Context(), failing(errDown).call, WithMaxAttempts(1), WithRetry(func() Retryer {
			return RetryerFunc(func(error) (time.Duration, bool) { return -time.Hour, true })
		}))
		if e := stopped(t, err, ReasonAttempts); e.Attempts[0].Pause != 0 {
			t.Errorf("recorded a pause of %v", e.Attempts[0].Pause)
		}
	})
}
