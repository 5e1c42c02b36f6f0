package reprise

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// nilStatus carries a status that is nil.
type nilStatus struct{ error }

func (nilStatus) GRPCStatus() *status.Status { return nil }

func TestOnCodes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		codes []codes.Code
		err   error
		want  bool
	}{
		{"listed", []codes.Code{codes.NotFound, codes.Unavailable}, errDown, true},
		{"not listed", []codes.Code{codes.NotFound}, errDown, false},
		{"no codes", nil, errDown, false},
		{"wrapped", []codes.Code{codes.Unavailable}, fmt.Errorf("dial: %w", errDown), true},
		{"joined", []codes.Code{codes.Unavailable}, errors.Join(errors.New("other"), errDown), true},
		{"the outermost counts", []codes.Code{codes.Unavailable}, &AttemptTimeoutError{Err: errDown}, false},
		{"the outermost counts, listed", []codes.Code{codes.DeadlineExceeded}, &AttemptTimeoutError{Err: errDown}, true},
		{"no status is not Unknown", []codes.Code{codes.Unknown}, errors.New("plain"), false},
		{"a nil status is none", []codes.Code{codes.Unknown, codes.OK}, nilStatus{errors.New("odd")}, false},
		{"a context error has no status", []codes.Code{codes.DeadlineExceeded, codes.Canceled}, context.DeadlineExceeded, false},
		{"a code beyond those of gRPC", []codes.Code{17, 31, 32, 4000}, status.Error(4000, ""), true},
		{"a code beyond, not listed", []codes.Code{31}, status.Error(63, ""), false},
		{"the stop of an inner call", []codes.Code{codes.Unavailable}, &Error{Reason: ReasonAttempts, Err: errDown}, true},
	} {
		pause, got := OnCodes(test.codes, steady(time.Second)).Retry(test.err)
		if got != test.want || (pause == time.Second) != test.want {
			t.Errorf("%s: got %v, %v", test.name, pause, got)
		}
	}
}

func TestOnCodesKeepsItsOwnCodes(t *testing.T) {
	t.Parallel()
	cc := []codes.Code{codes.Unavailable, 4000}
	r := OnCodes(cc, steady(1))
	cc[0], cc[1] = codes.NotFound, 5000
	if _, ok := r.Retry(errDown); !ok {
		t.Error("the Retryer's codes have changed")
	}
	if _, ok := r.Retry(status.Error(4000, "")); !ok {
		t.Error("the Retryer's codes have changed")
	}
}

func TestRefusedErrorsDoNotGrowThePauses(t *testing.T) {
	t.Parallel()
	r := OnUnavailable(Backoff{Initial: time.Second, Max: time.Hour, Jitter: JitterNone})
	r.Retry(errMissing)
	r.Retry(errMissing)
	if pause, _ := r.Retry(errDown); pause != time.Second {
		t.Errorf("the first pause is %v", pause)
	}
}

func TestOnErrorFunc(t *testing.T) {
	t.Parallel()
	if _, ok := OnErrorFunc(Backoff{}, nil).Retry(errDown); ok {
		t.Error("a nil predicate retries")
	}
	if _, ok := RetryerFunc(nil).Retry(errDown); ok {
		t.Error("a nil RetryerFunc retries")
	}
	r := OnErrorFunc(steady(time.Minute), func(err error) bool { return err == errDown }) //nolint:errorlint // the raw error is seen
	if pause, ok := r.Retry(errDown); !ok || pause != time.Minute {
		t.Errorf("got %v, %v", pause, ok)
	}
	if _, ok := r.Retry(errMissing); ok {
		t.Error("the predicate is not asked")
	}
}

func TestOnAttemptTimeoutTakesTheInnerPauses(t *testing.T) {
	t.Parallel()
	timeout := fmt.Errorf("wrapped: %w", &AttemptTimeoutError{Timeout: 1, Err: errMissing})
	r := OnAttemptTimeout(OnUnavailable(Backoff{Initial: time.Second, Max: time.Hour, Jitter: JitterNone}))
	for i, step := range []struct {
		err  error
		want time.Duration
	}{{timeout, 1}, {errDown, 2}, {timeout, 4}, {errMissing, 0}} {
		pause, ok := r.Retry(step.err)
		if pause != step.want*time.Second || ok != (step.want > 0) {
			t.Errorf("step %d: %v, %v", i, pause, ok)
		}
	}
	foreign := OnAttemptTimeout(RetryerFunc(func(error) (time.Duration, bool) { return 0, false }))
	for _, r := range []Retryer{foreign, OnAttemptTimeout(nil)} {
		if pause, ok := r.Retry(timeout); !ok || pause < 1 || pause > time.Second {
			t.Errorf("got %v, %v, want a pause of the default Backoff", pause, ok)
		}
		if _, ok := r.Retry(errDown); ok {
			t.Error("more than timeouts is retried")
		}
	}
}

func TestAnyOfAsksInOrder(t *testing.T) {
	t.Parallel()
	r := AnyOf(nil,
		OnUnavailable(Backoff{Initial: time.Second, Max: time.Hour, Jitter: JitterNone}),
		OnCodes([]codes.Code{codes.Unavailable, codes.NotFound}, Backoff{Initial: time.Minute, Max: time.Hour, Jitter: JitterNone}))
	for i, step := range []struct {
		err  error
		want time.Duration
	}{
		{errDown, time.Second},
		{errMissing, time.Minute},
		{errDown, 2 * time.Second},
		{errMissing, 2 * time.Minute},
		{errors.New("plain"), 0},
	} {
		if pause, ok := r.Retry(step.err); pause != step.want || ok != (step.want > 0) {
			t.Errorf("step %d: %v, %v, want %v", i, pause, ok, step.want)
		}
	}
	resetPauses(r)
	if pause, _ := r.Retry(errMissing); pause != time.Minute {
		t.Errorf("after a reset the pause is %v", pause)
	}
	if _, ok := AnyOf().Retry(errDown); ok {
		t.Error("AnyOf() retries")
	}
}

func TestAtMostCountsWhatItsOwnRetryerTakes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := failing(errDown)
		err := Invoke(t.Context(), s.call, WithRetry(func() Retryer { return AtMost(3, OnUnavailable(steady(time.Second))) }))
		if err != errDown || len(s.began) != 3 { //nolint:errorlint // the very error is promised
			t.Errorf("%v after %d attempts, want the error itself after 3", err, len(s.began))
		}
		// Errors that another part takes do not count.
		s = failing(errMissing, errMissing, errDown, errMissing, errDown)
		err = Invoke(t.Context(), s.call, WithRetry(func() Retryer {
			return AnyOf(AtMost(2, OnUnavailable(steady(1))), OnCodes([]codes.Code{codes.NotFound}, steady(1)))
		}))
		if err != errDown || len(s.began) != 5 { //nolint:errorlint // the very error is promised
			t.Errorf("%v after %d attempts, want 5", err, len(s.began))
		}
		for _, r := range []Retryer{AtMost(0, OnUnavailable(Backoff{})), AtMost(-1, OnUnavailable(Backoff{})), AtMost(5, nil)} {
			if _, ok := r.Retry(errDown); ok {
				t.Error("retried")
			}
		}
	})
}

func TestOnAttemptTimeoutDrawsFromWhateverItWraps(t *testing.T) {
	t.Parallel()
	timeout := &AttemptTimeoutError{Timeout: 1, Err: errMissing}
	growing := Backoff{Initial: time.Minute, Max: time.Hour, Jitter: JitterNone}
	for name, inner := range map[string]Retryer{
		"AtMost": AtMost(9, OnUnavailable(growing)),
		"AnyOf":  AnyOf(nil, RetryerFunc(nil), OnUnavailable(growing)),
		"nested": AtMost(9, AnyOf(AtMost(9, OnUnavailable(growing)))),
	} {
		r := OnAttemptTimeout(inner)
		r.Retry(errDown)
		if pause, _ := r.Retry(timeout); pause != 2*time.Minute {
			t.Errorf("%s: a pause of %v after a timeout, want the second of the Backoff inside", name, pause)
		}
		resetPauses(r)
		if pause, _ := r.Retry(errDown); pause != time.Minute {
			t.Errorf("%s: a pause of %v after the restart", name, pause)
		}
	}
	foreign := &resettable{}
	resetPauses(OnAttemptTimeout(foreign))
	if !foreign.reset {
		t.Error("the Retryer inside was not told to start anew")
	}
}

type resettable struct {
	RetryerFunc

	reset bool
}

func (r *resettable) Reset() { r.reset = true }
