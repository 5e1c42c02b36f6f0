package reprise

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
)

// A loop that asks a Decider ends as Invoke does, whatever the script.
func TestDeciderDecidesAsInvokeDoes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, test := range []struct {
			name    string
			results []error
			opts    func() []CallOption
		}{
			{"success", []error{nil}, func() []CallOption { return nil }},
			{"no retry", []error{errDown}, func() []CallOption { return nil }},
			{"retries", []error{errDown, errDown, nil}, func() []CallOption { return []CallOption{onDown(steady(time.Second))} }},
			{"declined", []error{errDown, errMissing}, func() []CallOption { return []CallOption{onDown(steady(time.Second))} }},
			{"attempts", []error{errDown}, func() []CallOption { return []CallOption{onDown(steady(time.Second)), WithMaxAttempts(3)} }},
			{"elapsed", []error{errDown}, func() []CallOption { return []CallOption{onDown(steady(time.Second)), WithMaxElapsed(3 * time.Second)} }},
			{"throttled", []error{errDown}, func() []CallOption {
				return []CallOption{onDown(steady(time.Second)), WithThrottle(NewThrottle(6, 1))}
			}},
			{"deadline", []error{errDown}, func() []CallOption {
				return []CallOption{onDown(steady(time.Second)), WithTimeout(3 * time.Second)}
			}},
		} {
			invoked := failing(test.results...)
			opts := test.opts()
			want := Invoke(t.Context(), invoked.call, opts...)

			asked := failing(test.results...)
			d, got := NewDecider(test.opts()...)
			if got != nil {
				t.Fatal(got)
			}
			for {
				err := asked.call(t.Context(), CallSettings{})
				if err == nil {
					d.Succeeded()
					break
				}
				var pause time.Duration
				if pause, got = d.Failed(t.Context(), err, nil); got != nil {
					break
				}
				time.Sleep(pause)
			}
			if (got == nil) != (want == nil) || got != nil && got.Error() != want.Error() {
				t.Errorf("%s: %v, Invoke returns %v", test.name, got, want)
			}
			wantBegan(t, asked, invoked.began...)
		}
	})
}

func TestDeciderHeedsTheTrailer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d, err := NewDecider(onDown(steady(time.Second)), WithPushback())
		if err != nil {
			t.Fatal(err)
		}
		if pause, err := d.Failed(t.Context(), errDown, metadata.Pairs(pushbackTrailer, "70")); pause != 70*time.Millisecond || err != nil {
			t.Errorf("%v, %v", pause, err)
		}
		_, err = d.Failed(t.Context(), errDown, metadata.Pairs(pushbackTrailer, "-1"))
		if e := stopped(t, err, ReasonPushback); e.Made != 2 {
			t.Errorf("got %+v", e)
		}
		if _, err := d.Failed(nil, errDown, nil); !isArgumentError(err) { //nolint:staticcheck // that is the test
			t.Errorf("got %v", err)
		}
		if _, err := d.Failed(t.Context(), nil, nil); !isArgumentError(err) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDeciderRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	for _, opt := range []CallOption{WithHedge(HedgePolicy{}), WithAttemptTimeout(1), WithObserver(new(diary))} {
		if _, err := NewDecider(opt); !isArgumentError(err) {
			t.Errorf("got %v", err)
		}
	}
}

func isArgumentError(err error) bool {
	_, ok := errors.AsType[*ArgumentError](err)
	return ok
}
