package serviceconfig_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/serviceconfig"
)

// A server answers every attempt with the next of its errors, the last for
// ever, and notes when it came.
type server struct {
	errs  []error
	times []time.Time
	grpc  []grpc.CallOption
}

func (s *server) call(_ context.Context, cs reprise.CallSettings) error {
	s.grpc = cs.GRPC
	s.times = append(s.times, time.Now())
	return s.errs[min(len(s.times), len(s.errs))-1]
}

// same reports whether err is want itself, not only like it.
func same(err, want error) bool { return err == want } //nolint:errorlint // identity is what is promised

func unavailable() error { return status.Error(codes.Unavailable, "down") }

const policies = `{
  "methodConfig": [
    {"name": [{"service": "a.B", "method": "Retried"}],
     "retryPolicy": {"maxAttempts": 9, "initialBackoff": "1s", "maxBackoff": "3s",
       "backoffMultiplier": 2, "retryableStatusCodes": ["unavailable"]}},
    {"name": [{"service": "a.B"}], "timeout": "5s"},
    {"name": [{"service": "a.B", "method": "Forwarded"}],
     "waitForReady": true, "maxRequestMessageBytes": 10, "maxResponseMessageBytes": 4294967295},
    {"name": [{}], "waitForReady": false}
  ]
}`

func TestARetryPolicyMakesTheAttemptsAndPausesOfA6(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := serviceconfig.NewPolicy(mustParse(t, policies))
		s := &server{errs: []error{unavailable()}}
		err := reprise.Invoke(t.Context(), s.call, p.CallOptions("/a.B/Retried")...)
		if stopped, ok := errors.AsType[*reprise.Error](err); !ok || stopped.Reason != reprise.ReasonAttempts {
			t.Errorf("got %v, want the end of the attempts", err)
		}
		if len(s.times) != serviceconfig.DefaultMaxAttempts {
			t.Fatalf("got %d attempts, want %d", len(s.times), serviceconfig.DefaultMaxAttempts)
		}
		for i, envelope := range []time.Duration{1, 2, 3, 3} {
			pause := s.times[i+1].Sub(s.times[i])
			if least, most := envelope*800*time.Millisecond, envelope*1200*time.Millisecond; pause < least || pause > most {
				t.Errorf("pause %d: got %v, want from %v to %v", i+1, pause, least, most)
			}
		}
		s = &server{errs: []error{status.Error(codes.Aborted, "")}}
		if err := reprise.Invoke(t.Context(), s.call, p.CallOptions("/a.B/Retried")...); !same(err, s.errs[0]) || len(s.times) != 1 {
			t.Errorf("of a code not listed: got %v after %d attempts, want the error itself after 1", err, len(s.times))
		}
	})
}

func TestARetryPolicyHeedsTheServersAdvice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		busy, err := status.New(codes.Unavailable, "busy").WithDetails(
			&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		p := serviceconfig.NewPolicy(mustParse(t, policies))
		s := &server{errs: []error{busy.Err(), nil}}
		began := time.Now()
		if err := reprise.Invoke(t.Context(), s.call, p.CallOptions("/a.B/Retried")...); err != nil {
			t.Error(err)
		}
		if pause := time.Since(began); pause < time.Minute {
			t.Errorf("the pause was %v, want at least 1m", pause)
		}
	})
}

func TestTheClientChoosesTheLimitOfAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for limit, want := range map[int]int{-1: 5, 0: 5, 1: 1, 7: 7, 100: 9} {
			c := mustParse(t, policies)
			c.AttemptLimit = limit
			s := &server{errs: []error{unavailable()}}
			_ = reprise.Invoke(t.Context(), s.call, serviceconfig.NewPolicy(c).CallOptions("/a.B/Retried")...)
			if len(s.times) != want {
				t.Errorf("limit %d: got %d attempts, want %d", limit, len(s.times), want)
			}
		}
		if got := (&serviceconfig.Config{}).Attempts(0); got != 1 {
			t.Errorf("a policy without maxAttempts gives %d attempts, want 1", got)
		}
	})
}

func TestATimeoutBoundsTheCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := serviceconfig.NewPolicy(mustParse(t, policies))
		began := time.Now()
		_ = reprise.Invoke(t.Context(), func(ctx context.Context, _ reprise.CallSettings) error {
			<-ctx.Done()
			return ctx.Err()
		}, p.CallOptions("/a.B/Other")...)
		if got := time.Since(began); got != 5*time.Second {
			t.Errorf("the call took %v, want 5s", got)
		}
	})
}

func TestSizesAndReadinessAreForwarded(t *testing.T) {
	t.Parallel()
	p := serviceconfig.NewPolicy(mustParse(t, policies))
	for method, want := range map[string][]grpc.CallOption{
		"/a.B/Forwarded": {grpc.WaitForReady(true), grpc.MaxCallSendMsgSize(10), grpc.MaxCallRecvMsgSize(4294967295)},
		"/a.B/Other":     nil,
		"/x.Y/Other":     {grpc.WaitForReady(false)},
		"":               {grpc.WaitForReady(false)},
	} {
		s := &server{errs: []error{nil}}
		if err := reprise.Invoke(t.Context(), s.call, p.CallOptions(method)...); err != nil {
			t.Errorf("%q: %v", method, err)
		}
		if !reflect.DeepEqual(s.grpc, want) {
			t.Errorf("%q: got %v, want %v", method, s.grpc, want)
		}
	}
}

func TestAllMethodsOfAServerShareOneThrottle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := mustParse(t, policies)
		c.Throttling = &serviceconfig.RetryThrottling{MaxTokens: 4, TokenRatio: 0.5}
		p := serviceconfig.NewPolicy(c)
		s := &server{errs: []error{unavailable()}}
		_ = reprise.Invoke(t.Context(), s.call, p.CallOptions("/a.B/Retried")...)
		// A6: 4 tokens, and a retry needs more than 2: the second failure is the last.
		if len(s.times) != 2 || p.Throttle().Tokens() != 2 {
			t.Errorf("got %d attempts and %v tokens left, want 2 and 2", len(s.times), p.Throttle().Tokens())
		}
		s = &server{errs: []error{nil}}
		_ = reprise.Invoke(t.Context(), s.call, p.CallOptions("/not.Named/AtAll")...)
		if got := p.Throttle().Tokens(); got != 2.5 {
			t.Errorf("a success of another service leaves %v tokens, want 2.5", got)
		}
	})
	if got := serviceconfig.NewPolicy(&serviceconfig.Config{}).Throttle(); got != nil {
		t.Errorf("a config without throttling gives %v", got)
	}
}

func TestExtraOptionsGoBeforeTheConfig(t *testing.T) {
	t.Parallel()
	p := serviceconfig.NewPolicy(mustParse(t, policies), reprise.WithRetry(nil))
	s := &server{errs: []error{unavailable()}}
	if err := reprise.Invoke(t.Context(), s.call, p.CallOptions("/a.B/Retried")...); !same(err, s.errs[0]) || len(s.times) != 1 {
		t.Errorf("got %v after %d attempts, want the error itself after 1", err, len(s.times))
	}
	empty := serviceconfig.NewPolicy(&serviceconfig.Config{})
	if got := empty.CallOptions("/a.B/C"); len(got) != 0 {
		t.Errorf("an empty config gives %v", got)
	}
}

func TestLookingUpOptionsDoesNotAllocate(t *testing.T) {
	p := serviceconfig.NewPolicy(mustParse(t, policies))
	for _, method := range []string{"/a.B/Retried", "/a.B/Other", "/x.Y/Other", ""} {
		if got := testing.AllocsPerRun(100, func() { p.CallOptions(method) }); got != 0 {
			t.Errorf("%q: got %v allocations, want 0", method, got)
		}
	}
}
