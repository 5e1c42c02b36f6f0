package reprise

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// vector is a script of a server, a policy, and what must come of them. The
// policy is written as in a gRPC service config.
type vector struct {
	Name     string
	Policy   json.RawMessage
	Throttle json.RawMessage
	Timeout  string
	NotGRPC  string // why grpc-go does not agree
	Calls    []struct {
		Server []struct {
			Code     grpcCode
			Pushback []string
			Hangs    bool // until the call is over
		}
		Attempts int
		Pauses   []string // "=" before a pause: exactly, without jitter
		Code     grpcCode
		Reason   string
		Tokens   *float64
	}
}

// grpcCode is a code by its name in JSON.
type grpcCode struct{ codes.Code }

func (c *grpcCode) UnmarshalJSON(b []byte) error { return c.Code.UnmarshalJSON(b) }

// options are the vector's policy for Reprise.
func (v *vector) options(t *testing.T) ([]CallOption, *Throttle) {
	t.Helper()
	var p struct {
		MaxAttempts                int
		InitialBackoff, MaxBackoff string
		BackoffMultiplier          float64
		RetryableStatusCodes       []grpcCode
	}
	unmarshal(t, v.Policy, &p)
	var retryable []codes.Code
	for _, c := range p.RetryableStatusCodes {
		retryable = append(retryable, c.Code)
	}
	bo := Backoff{
		Initial: duration(t, p.InitialBackoff), Max: duration(t, p.MaxBackoff),
		Multiplier: p.BackoffMultiplier, Jitter: JitterPlusMinus,
	}
	opts := []CallOption{WithRetry(func() Retryer { return OnCodes(retryable, bo) }), WithMaxAttempts(p.MaxAttempts), WithPushback()}
	if v.Timeout != "" {
		opts = append(opts, WithTimeout(duration(t, v.Timeout)))
	}
	if v.Throttle == nil {
		return opts, nil
	}
	var th struct{ MaxTokens, TokenRatio float64 }
	unmarshal(t, v.Throttle, &th)
	throttle := NewThrottle(th.MaxTokens, th.TokenRatio)
	return append(opts, WithThrottle(throttle)), throttle
}

// config is the vector's policy for grpc-go.
func (v *vector) config() string {
	method := `{"name": [{}], "retryPolicy": ` + string(v.Policy)
	if v.Timeout != "" {
		method += `, "timeout": "` + v.Timeout + `"`
	}
	config := `{"methodConfig": [` + method + `}]`
	if v.Throttle != nil {
		config += `, "retryThrottling": ` + string(v.Throttle)
	}
	return config + "}"
}

// driver makes the calls of a vector over one connection.
type driver struct {
	call     func(ctx context.Context) error
	throttle *Throttle
	reasons  bool // the errors say why the call ended
}

var drivers = map[string]func(t *testing.T, v *vector, s *server) driver{
	"Invoke": func(t *testing.T, v *vector, s *server) driver {
		t.Helper()
		opts, throttle := v.options(t)
		client := testpb.NewTestServiceClient(serve(t, s))
		return driver{func(ctx context.Context) error {
			return Invoke(ctx, func(ctx context.Context, cs CallSettings) error {
				_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{}, cs.GRPC...)
				return err
			}, opts...)
		}, throttle, true}
	},
	"Unary": func(t *testing.T, v *vector, s *server) driver {
		t.Helper()
		opts, throttle := v.options(t)
		u := bindUnary(serve(t, s), opts...)
		return driver{func(ctx context.Context) error {
			_, err := u.Call(ctx, &testpb.SimpleRequest{})
			return err
		}, throttle, true}
	},
	"interceptor": func(t *testing.T, v *vector, s *server) driver {
		t.Helper()
		opts, throttle := v.options(t)
		client := testpb.NewTestServiceClient(serve(t, s, grpc.WithUnaryInterceptor(UnaryClientInterceptor(opts...))))
		return driver{func(ctx context.Context) error {
			_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{})
			return err
		}, throttle, true}
	},
	"grpc-go": func(t *testing.T, v *vector, s *server) driver {
		t.Helper()
		if v.NotGRPC != "" {
			return driver{}
		}
		client := testpb.NewTestServiceClient(serveRetrying(t, s, grpc.WithDefaultServiceConfig(v.config())))
		return driver{func(ctx context.Context) error {
			_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{})
			return err
		}, nil, false}
	},
}

func TestConformanceVectors(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/conformance.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	unmarshal(t, data, &vectors)
	for name, connect := range drivers {
		for _, v := range vectors {
			t.Run(name+"/"+v.Name, func(t *testing.T) {
				bubble(t, func(t *testing.T) { v.run(t, connect) })
			})
		}
	}
	t.Logf("%d vectors through %d drivers", len(vectors), len(drivers))
}

func (v *vector) run(t *testing.T, connect func(t *testing.T, v *vector, s *server) driver) {
	t.Helper()
	current, before := 0, 0
	s := &server{unary: func(ctx context.Context, n int, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		script := v.Calls[current].Server
		st := script[min(n-before, len(script))-1]
		for _, value := range st.Pushback {
			trailer(ctx, pushbackTrailer, value)
		}
		if st.Hangs {
			<-ctx.Done()
		}
		return named(n), status.Error(st.Code.Code, "as the vector says")
	}}
	d := connect(t, v, s)
	if d.call == nil {
		t.Log("not asked:", v.NotGRPC)
		return
	}
	for i, c := range v.Calls {
		synctest.Wait() // for a handler whose call ran out of time
		current, before = i, s.calls()
		err := d.call(t.Context())
		times := s.times()[before:]
		if len(times) != c.Attempts {
			t.Errorf("call %d: %d attempts, want %d: %v", i+1, len(times), c.Attempts, err)
			continue
		}
		for j, text := range c.Pauses {
			checkPause(t, i+1, times[j+1]-times[j], text)
		}
		if len(c.Pauses) != c.Attempts-1 {
			t.Errorf("call %d: the vector has %d pauses for %d attempts", i+1, len(c.Pauses), c.Attempts)
		}
		wantCode(t, err, c.Code.Code)
		if d.reasons {
			got := ""
			if e, ok := errors.AsType[*Error](err); ok {
				got = e.Reason.String()
			}
			if got != c.Reason {
				t.Errorf("call %d ended because of %q, want %q", i+1, got, c.Reason)
			}
		}
		if d.throttle != nil && c.Tokens != nil && d.throttle.Tokens() != *c.Tokens {
			t.Errorf("call %d: %v tokens, want %v", i+1, d.throttle.Tokens(), *c.Tokens)
		}
	}
	for i, head := range s.previous() {
		if _, err := strconv.Atoi(head); err != nil && head != "-" {
			t.Errorf("attempt header %d is %q", i, head)
		}
	}
}

func checkPause(t *testing.T, call int, got time.Duration, text string) {
	t.Helper()
	exact, isExact := strings.CutPrefix(text, "=")
	want := duration(t, exact)
	low, high := want*8/10, want*12/10
	if isExact {
		low, high = want, want
	}
	if got < low || got > high {
		t.Errorf("call %d: a pause of %v, want %s", call, got, text)
	}
}

func unmarshal(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
