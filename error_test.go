package reprise

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestErrorStatus(t *testing.T) {
	t.Parallel()
	detailed, err := status.New(codes.ResourceExhausted, "quota").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		err     *Error
		code    codes.Code
		details int
	}{
		{"attempts exhausted", &Error{Reason: ReasonAttempts, Err: detailed.Err()}, codes.ResourceExhausted, 1},
		{"a wrapped status", &Error{Reason: ReasonElapsed, Err: fmt.Errorf("lookup: %w", detailed.Err())}, codes.ResourceExhausted, 1},
		{"throttled", &Error{Reason: ReasonThrottled, Err: detailed.Err()}, codes.ResourceExhausted, 1},
		{"pushed back", &Error{Reason: ReasonPushback, Err: detailed.Err()}, codes.ResourceExhausted, 1},
		{"deadline", &Error{Reason: ReasonDeadline, Err: detailed.Err()}, codes.DeadlineExceeded, 0},
		{"cancelled", &Error{Reason: ReasonCanceled, Err: detailed.Err()}, codes.Canceled, 0},
		{"no status", &Error{Reason: ReasonAttempts, Err: errors.New("plain")}, codes.Unknown, 0},
		{"an error that claims success", &Error{Reason: ReasonAttempts, Err: okStatus{errors.New("odd")}}, codes.Unknown, 0},
		{"refused at first", &Error{Reason: ReasonThrottled}, codes.Unavailable, 0},
		{"the zero value", &Error{}, codes.Unavailable, 0},
	} {
		for _, err := range []error{test.err, fmt.Errorf("wrapped: %w", test.err)} {
			st, ok := status.FromError(err)
			if !ok || st.Code() != test.code || len(st.Details()) != test.details {
				t.Errorf("%s: status %v with %d details, %v", test.name, st.Code(), len(st.Details()), ok)
			}
			if !strings.Contains(st.Message(), test.err.Error()) {
				t.Errorf("%s: the message %q lacks %q", test.name, st.Message(), test.err)
			}
		}
	}
	if detailed.Message() != "quota" {
		t.Error("the last error's status was changed")
	}
}

// okStatus is an error whose status is OK.
type okStatus struct{ error }

func (okStatus) GRPCStatus() *status.Status { return status.New(codes.OK, "") }

func TestErrorTextsSayWhatHappened(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"reprise: deadline exceeded after 3 attempts: last error: plain":                 &Error{Reason: ReasonDeadline, Made: 3, Err: errors.New("plain"), Cause: context.DeadlineExceeded},
		"reprise: canceled before the first attempt":                                     &Error{Reason: ReasonCanceled, Cause: context.Canceled},
		"reprise: canceled after 1 attempt: shutting down: last error: plain":            &Error{Reason: ReasonCanceled, Made: 1, Err: errors.New("plain"), Cause: errors.New("shutting down")},
		"reprise: attempts exhausted after 5 attempts: last error: plain":                &Error{Reason: ReasonAttempts, Made: 5, Err: errors.New("plain")},
		"reprise: retry time exhausted after 2 attempts: last error: plain":              &Error{Reason: ReasonElapsed, Made: 2, Err: errors.New("plain")},
		"reprise: throttled by the client before the first attempt":                      &Error{Reason: ReasonThrottled},
		"reprise: pushed back by the server after 1 attempt: last error: plain":          &Error{Reason: ReasonPushback, Made: 1, Err: errors.New("plain")},
		"reprise: Reason(77) before the first attempt":                                   &Error{Reason: 77},
		"reprise: attempt timed out after 2s: plain":                                     &AttemptTimeoutError{Timeout: 2 * time.Second, Err: errors.New("plain")},
		"reprise: Invoke: the call is nil":                                               &ArgumentError{Func: "Invoke", Problem: "the call is nil"},
		"reprise: Reason(0) after 1 attempt: the context's own word: last error: ending": &Error{Made: 1, Err: errors.New("ending"), Cause: errors.New("the context's own word")},
	} {
		if err.Error() != want {
			t.Errorf("got  %q\nwant %q", err, want)
		}
	}
}

func TestErrorMatchesWhatItStandsFor(t *testing.T) {
	t.Parallel()
	cause, last := errors.New("cause"), errors.New("last")
	all := []error{context.DeadlineExceeded, context.Canceled, ErrThrottled}
	for reason, own := range map[Reason]error{
		ReasonDeadline: context.DeadlineExceeded, ReasonCanceled: context.Canceled, ReasonThrottled: ErrThrottled,
		ReasonAttempts: nil, ReasonElapsed: nil, ReasonPushback: nil,
	} {
		err := error(&Error{Reason: reason, Err: last, Cause: cause})
		if !errors.Is(err, last) || !errors.Is(err, cause) {
			t.Errorf("%v does not match its parts", err)
		}
		for _, target := range all {
			if errors.Is(err, target) != (target == own) { //nolint:errorlint // values of a table
				t.Errorf("%v: errors.Is(%v) = %v", err, target, target != own) //nolint:errorlint // values of a table
			}
		}
	}
}
