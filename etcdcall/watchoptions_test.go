package etcdcall

import (
	"testing"
	"time"
)

func TestNonsenseInTheOptionsOfWatchesStandsForTheDefault(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		silence, wantSilence time.Duration
		buffer, wantBuffer   int
	}{
		{0, DefaultWatchSilence, 0, DefaultWatchBuffer},
		{-time.Second, DefaultWatchSilence, -1, DefaultWatchBuffer},
		{10*time.Millisecond - 1, DefaultWatchSilence, 1, 1},
		{10 * time.Millisecond, 10 * time.Millisecond, 1 << 30, 1 << 30},
	} {
		set := newSettings([]Option{WithWatchSilence(test.silence), WithWatchBuffer(test.buffer)})
		if w := set.watch(); w.Silence != test.wantSilence || w.Buffer != test.wantBuffer {
			t.Errorf("%v and %d: got %v and %d", test.silence, test.buffer, w.Silence, w.Buffer)
		}
	}
}
