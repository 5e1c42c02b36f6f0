package reprise

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestSleep(t *testing.T) {
	bubble(t, func(t *testing.T) {
		live, cancelLive := context.WithCancel(t.Context())
		defer cancelLive()
		for _, ctx := range []context.Context{context.Background(), live} {
			for _, d := range []time.Duration{50, time.Microsecond, time.Second, 24 * time.Hour} {
				begin := time.Now()
				if err := Sleep(ctx, d); err != nil {
					t.Error(err)
				}
				wantElapsed(t, begin, d)
			}
			begin := time.Now()
			for _, d := range []time.Duration{-time.Hour, 0, 1} {
				if err := Sleep(ctx, d); err != nil {
					t.Error(err)
				}
			}
			wantElapsed(t, begin, 0)
		}
	})
}

func TestSleepEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		wantElapsed(t, begin, time.Second)
	})
}

func TestSleepOnADeadContextAlwaysSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 1000 {
		for _, d := range []time.Duration{-1, 0, 1, time.Hour} {
			if err := Sleep(ctx, d); !errors.Is(err, context.Canceled) {
				t.Fatalf("Sleep(cancelled, %v) = %v", d, err)
			}
		}
	}
}
