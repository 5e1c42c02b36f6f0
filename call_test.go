package reprise

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

func TestUnaryCallRetriesAndReturnsTheLastResponse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for name, opts := range map[string][]CallOption{
			"bound":       {},
			"per call":    {WithMaxAttempts(5)},
			"with a time": {WithTimeout(time.Minute)},
		} {
			var began []time.Duration
			first := time.Now()
			u := NewUnary(func(_ context.Context, in *ping, _ ...grpc.CallOption) (*ping, error) {
				began = append(began, time.Since(first))
				if len(began) < 3 {
					return &ping{-1}, errDown
				}
				return &ping{in.n + 1}, nil
			}, onDown(steady(time.Second)))
			resp, err := u.Call(t.Context(), &ping{41}, opts...)
			if err != nil || resp.n != 42 || !slices.Equal(began, []time.Duration{0, time.Second, 2 * time.Second}) {
				t.Errorf("%s: %v, %v after attempts at %v", name, resp, err, began)
			}
		}
	})
}

func TestUnaryOverridesHoldForOneCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		calls := 0
		u := NewUnary(func(context.Context, *ping, ...grpc.CallOption) (*ping, error) {
			calls++
			return nil, errDown
		}, onDown(steady(time.Second)), WithMaxAttempts(3))
		for _, test := range []struct {
			opts []CallOption
			want int
		}{
			{nil, 3},
			{[]CallOption{WithMaxAttempts(2)}, 2},
			{[]CallOption{WithRetry(nil)}, 1},
			{nil, 3},
		} {
			calls = 0
			_, err := u.Call(t.Context(), nil, test.opts...)
			if calls != test.want {
				t.Errorf("%d attempts, want %d: %v", calls, test.want, err)
			}
			wantCode(t, err, codes.Unavailable)
		}
	})
}

func TestUnaryForwardsGRPCOptionsInOrder(t *testing.T) {
	t.Parallel()
	var got []grpc.CallOption
	stub := func(_ context.Context, in *ping, opts ...grpc.CallOption) (*ping, error) {
		got = opts
		return in, nil
	}
	a, b := grpc.MaxCallSendMsgSize(1), grpc.MaxCallSendMsgSize(2)
	u := NewUnary(stub, WithGRPCOptions(a))
	_, _ = u.Call(t.Context(), nil)
	if !slices.Equal(got, []grpc.CallOption{a}) {
		t.Errorf("got %v", got)
	}
	_, _ = u.Call(t.Context(), nil, WithGRPCOptions(b))
	if !slices.Equal(got, []grpc.CallOption{a, b}) {
		t.Errorf("got %v", got)
	}
	_, _ = u.Call(t.Context(), nil)
	if !slices.Equal(got, []grpc.CallOption{a}) {
		t.Errorf("an option of one call stayed: %v", got)
	}
}
