package reprise

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// ways are the ways to make a call whose attempts return nothing but errors.
var ways = map[string]func(ctx context.Context, call func(context.Context) error, opts ...CallOption) error{
	"Invoke": func(ctx context.Context, call func(context.Context) error, opts ...CallOption) error {
		return Invoke(ctx, func(ctx context.Context, _ CallSettings) error { return call(ctx) }, opts...)
	},
	"Do": func(ctx context.Context, call func(context.Context) error, opts ...CallOption) error {
		_, err := Do(ctx, func(ctx context.Context) (*ping, error) { return nil, call(ctx) }, opts...)
		return err
	},
	"Unary": func(ctx context.Context, call func(context.Context) error, opts ...CallOption) error {
		_, err := NewUnary(func(ctx context.Context, _ *ping, _ ...grpc.CallOption) (*ping, error) {
			return nil, call(ctx)
		}, opts...).Call(ctx, nil)
		return err
	},
	"Unary with options": func(ctx context.Context, call func(context.Context) error, opts ...CallOption) error {
		_, err := NewUnary(func(ctx context.Context, _ *ping, _ ...grpc.CallOption) (*ping, error) {
			return nil, call(ctx)
		}).Call(ctx, nil, opts...)
		return err
	},
}

func TestMaxElapsedCountsFromTheBeginOfTheFirstAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for name, way := range ways {
			for _, more := range [][]CallOption{nil, {WithAttemptTimeout(time.Hour)}} {
				s, begin := failing(errDown), time.Now()
				s.takes = 3 * time.Second
				call := func(ctx context.Context) error { return s.call(ctx, CallSettings{}) }
				err := way(t.Context(), call, append(more, onDown(steady(time.Second)), WithMaxElapsed(8*time.Second))...)
				e := stopped(t, err, ReasonElapsed)
				wantBegan(t, s, 0, 4*time.Second)
				wantElapsed(t, begin, 7*time.Second)
				for i, a := range e.Attempts {
					want := begin.Add(s.began[i])
					if a.Number != i+1 || a.Duration != 3*time.Second || !a.Start.Equal(want) || !a.Start.Round(0).Equal(want.Round(0)) {
						t.Errorf("%s: record %d is %+v", name, i, a)
					}
				}
			}
		}
	})
}

// The same by the clock of the machine, which is not that of a bubble.
func TestTheFirstAttemptIsRecordedWhenItBegan(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		before := time.Now()
		var within time.Time
		err := way(t.Context(), func(context.Context) error {
			if within.IsZero() {
				within = time.Now()
			}
			return errDown
		}, onDown(steady(time.Nanosecond)), WithMaxAttempts(2), WithMaxElapsed(time.Hour))
		first := stopped(t, err, ReasonAttempts).Attempts[0]
		if first.Start.Before(before) || first.Start.After(within) || first.Duration < 0 {
			t.Errorf("%s: %+v is not between %v and %v", name, first, before, within)
		}
	}
}

func TestEachWayToCallKeepsTheSameRules(t *testing.T) {
	bubble(t, func(t *testing.T) {
		over, cancel := context.WithCancel(t.Context())
		cancel()
		for name, way := range ways {
			none := func(context.Context) error {
				t.Errorf("%s: an attempt is made", name)
				return nil
			}
			stopped(t, way(over, none), ReasonCanceled)
			stopped(t, way(t.Context(), none, WithThrottle(refuser{})), ReasonThrottled)

			counted := &tally{}
			s := failing(errDown, errDown, nil)
			call := func(ctx context.Context) error { return s.call(ctx, CallSettings{}) }
			outer := &attemptContext{Context: t.Context(), number: 7}
			if err := way(outer, call, onDown(steady(time.Second)), WithThrottle(counted)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !slices.Equal(s.seen, []int{1, 2, 3}) || !slices.Equal(counted.admitted, []int{1, 2, 3}) || !slices.Equal(counted.done, []bool{true, true, false}) {
				t.Errorf("%s: attempts %v, and the throttle saw %+v", name, s.seen, counted)
			}
			counted = &tally{}
			if err := way(t.Context(), func(context.Context) error { return nil }, WithThrottle(counted)); err != nil || !slices.Equal(counted.done, []bool{false}) {
				t.Errorf("%s: %v, and the throttle saw %+v", name, err, counted)
			}
			s = failing(errDown)
			if e := stopped(t, way(t.Context(), call, onDown(steady(time.Second)), WithMaxAttempts(2)), ReasonAttempts); e.Made != 2 || !e.Attempts[0].Start.IsZero() {
				t.Errorf("%s: %d attempts of 2, the first at a time that nobody asked for: %+v", name, e.Made, e.Attempts)
			}
			func() {
				defer func() {
					if recover() != "panic" {
						t.Errorf("%s: the panic is lost", name)
					}
				}()
				_ = way(t.Context(), func(context.Context) error { panic("panic") })
			}()
		}
	})
}

// tally is a throttle that admits all.
type tally struct {
	admitted []int
	done     []bool
}

func (y *tally) Admit(attempt int) bool {
	y.admitted = append(y.admitted, attempt)
	return true
}

func (y *tally) Done(failed bool) { y.done = append(y.done, failed) }
