package reprise

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// lowest and highest make every draw the least or the greatest possible.
func lowest() float64  { return 0 }
func highest() float64 { return 1 }

func TestBackoffEnvelopesAndJitters(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	base := Backoff{Initial: 100 * ms, Max: 450 * ms, Multiplier: 2}
	for _, test := range []struct {
		name     string
		jitter   Jitter
		low      []time.Duration
		high     []time.Duration
		initial  time.Duration
		max      time.Duration
		multiply float64
	}{
		{name: "full", jitter: JitterFull, low: []time.Duration{1, 1, 1, 1}, high: []time.Duration{100 * ms, 200 * ms, 400 * ms, 450 * ms}},
		{name: "unknown is full", jitter: 99, low: []time.Duration{1}, high: []time.Duration{100 * ms}},
		{name: "equal", jitter: JitterEqual, low: []time.Duration{50*ms + 1, 100*ms + 1, 200*ms + 1, 225*ms + 1}, high: []time.Duration{100 * ms, 200 * ms, 400 * ms, 450 * ms}},
		{name: "A6", jitter: JitterPlusMinus, low: []time.Duration{80 * ms, 160 * ms, 320 * ms, 360 * ms}, high: []time.Duration{120 * ms, 240 * ms, 480 * ms, 540 * ms}},
		{name: "none", jitter: JitterNone, low: []time.Duration{100 * ms, 200 * ms, 400 * ms, 450 * ms, 450 * ms}, high: []time.Duration{100 * ms, 200 * ms, 400 * ms, 450 * ms, 450 * ms}},
		{name: "decorrelated", jitter: JitterDecorrelated, multiply: 3, max: 2 * time.Second, low: []time.Duration{100 * ms, 100 * ms, 100 * ms}, high: []time.Duration{300 * ms, 900 * ms, 2 * time.Second}},
		{name: "A6 allows a shrinking envelope", jitter: JitterNone, multiply: 0.5, low: []time.Duration{100 * ms, 50 * ms, 25 * ms}, high: []time.Duration{100 * ms, 50 * ms, 25 * ms}},
		{name: "Initial above Max is Max", jitter: JitterNone, initial: time.Hour, low: []time.Duration{450 * ms, 450 * ms}, high: []time.Duration{450 * ms, 450 * ms}},
	} {
		bo := base
		bo.Jitter = test.jitter
		if test.multiply != 0 {
			bo.Multiplier = test.multiply
		}
		if test.max != 0 {
			bo.Max = test.max
		}
		if test.initial != 0 {
			bo.Initial = test.initial
		}
		near := func(a, b time.Duration) bool { return a-b < 1000 && b-a < 1000 } // float64 keeps 53 bits
		low, high := bo, bo
		low.Rand, high.Rand = lowest, highest
		for i, want := range test.low {
			if got := low.Pause(); !near(got, want) {
				t.Errorf("%s: lowest pause %d is %v, want %v", test.name, i+1, got, want)
			}
			if got := high.Pause(); !near(got, test.high[i]) {
				t.Errorf("%s: highest pause %d is %v, want %v", test.name, i+1, got, test.high[i])
			}
		}
		low.Reset()
		if got := low.Pause(); !near(got, test.low[0]) {
			t.Errorf("%s: after Reset the lowest pause is %v", test.name, got)
		}
	}
}

func TestBackoffZeroValueHasGaxDefaults(t *testing.T) {
	t.Parallel()
	bo := Backoff{Jitter: JitterNone}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		if got := bo.Pause(); got != want*time.Second {
			t.Errorf("pause %d is %v, want %v s", i+1, got, want)
		}
	}
	if (&Backoff{}).Jitter != JitterFull {
		t.Error("the default is not full jitter")
	}
}

func TestFullJitterIsUniform(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	const n, parts = 20_000, 10
	var counts [parts]int
	for range n {
		bo := Backoff{Initial: time.Second, Rand: r.Float64}
		p := bo.Pause()
		if p < 1 || p > time.Second {
			t.Fatalf("pause %v", p)
		}
		counts[(p-1)*parts/time.Second]++
	}
	for i, c := range counts {
		// Six standard deviations of a binomial with p = 0.1.
		if math.Abs(float64(c)-n/parts) > 6*math.Sqrt(n*0.1*0.9) {
			t.Errorf("part %d was drawn %d times of %d", i, c, n)
		}
	}
}

func TestBackoffIsRepeatableWithASeed(t *testing.T) {
	t.Parallel()
	run := func() (pauses [5]time.Duration) {
		bo := Backoff{Rand: rand.New(rand.NewPCG(7, 7)).Float64}
		for i := range pauses {
			pauses[i] = bo.Pause()
		}
		return pauses
	}
	if a, b := run(), run(); a != b {
		t.Errorf("%v and %v differ", a, b)
	}
}

var oddDurations = []time.Duration{math.MinInt64, -time.Second, -1, 0, 1, 2, time.Millisecond, time.Hour, math.MaxInt64 - 1, math.MaxInt64}

var oddFloats = []float64{math.NaN(), math.Inf(-1), -2, -math.SmallestNonzeroFloat64, 0, math.SmallestNonzeroFloat64, 0.5, 1, 1.0000001, 2, 1e300, math.Inf(1)}

// checkBackoff holds any Backoff to what its doc comment says of all.
func checkBackoff(t *testing.T, bo Backoff) {
	t.Helper()
	limit := bo.Max
	if limit <= 0 {
		limit = 30 * time.Second
	}
	if bo.Jitter == JitterPlusMinus {
		limit = max(limit, time.Duration(min(float64(limit)*1.2, math.MaxInt64-1024)))
		if bo.Max > math.MaxInt64/2 {
			limit = math.MaxInt64
		}
	}
	was := bo
	for i := range 40 {
		if p := bo.Pause(); p < 1 || p > limit {
			t.Fatalf("pause %d of %+v is %v, outside [1 ns, %v]", i+1, was, p, limit)
		}
	}
}

func TestEveryValueOfABackoffIsSafe(t *testing.T) {
	t.Parallel()
	for _, initial := range oddDurations {
		for _, limit := range oddDurations {
			for _, multiplier := range oddFloats {
				for jitter := range Jitter(6) {
					for _, u := range oddFloats {
						checkBackoff(t, Backoff{Initial: initial, Max: limit, Multiplier: multiplier, Jitter: jitter, Rand: func() float64 { return u }})
					}
					checkBackoff(t, Backoff{Initial: initial, Max: limit, Multiplier: multiplier, Jitter: jitter})
				}
			}
		}
	}
}

func FuzzBackoff(f *testing.F) {
	f.Add(int64(time.Second), int64(time.Minute), 2.0, uint8(0), 0.5)
	f.Add(int64(-1), int64(math.MaxInt64), math.NaN(), uint8(3), math.Inf(1))
	f.Fuzz(func(t *testing.T, initial, limit int64, multiplier float64, jitter uint8, u float64) {
		checkBackoff(t, Backoff{
			Initial: time.Duration(initial), Max: time.Duration(limit), Multiplier: multiplier,
			Jitter: Jitter(jitter), Rand: func() float64 { return u },
		})
	})
}
