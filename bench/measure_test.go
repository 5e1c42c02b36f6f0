package main

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestTheIntervalHoldsTheMedianInAtLeast95PercentOfSamples(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{minRounds, 9, 20, 25, 60} {
		const samples = 4000
		held := 0
		for range samples {
			x := make([]float64, n)
			for i := range x {
				x[i] = rng.ExpFloat64() // skewed, as times are
			}
			if e := estimateOf(x); e.low <= math.Ln2 && math.Ln2 <= e.high {
				held++
			}
		}
		// Three standard deviations of the count below 95% would be chance.
		if least := 0.95*samples - 3*math.Sqrt(samples*0.95*0.05); float64(held) < least {
			t.Errorf("%d rounds: the interval held the median in %d of %d samples", n, held, samples)
		}
	}
}

func TestTheIntervalOfTwentyRoundsLeavesOutTheFiveExtremesOfEachSide(t *testing.T) {
	t.Parallel()
	x := make([]float64, 20)
	for i := range x {
		x[i] = float64(20 - i)
	}
	// 2·P(B ≤ 5) = 0.041 and 2·P(B ≤ 6) = 0.115 for 20 fair coins.
	if got, want := estimateOf(x), (estimate{10.5, 6, 15}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAllocationsAreCountedForEachCall(t *testing.T) {
	// Not in parallel: the runtime counts those of all goroutines.
	var keep *[64]byte
	c := contender{"two", func(n int) error {
		for range n {
			keep = new([64]byte)
			keep = new([64]byte)
		}
		return nil
	}}
	count, bytes, err := allocations(c, 100_000)
	if err != nil || keep == nil || count < 2 || count > 2.05 || bytes < 128 || bytes > 140 {
		t.Errorf("got %.3f allocations of %.1f bytes, %v", count, bytes, err)
	}
}

func TestAContenderThatFailsStopsTheMeasurement(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	calls := 0
	g := group{name: "g", contenders: []contender{
		{"good", func(int) error { return nil }},
		{"bad", func(int) error {
			if calls++; calls > 10 {
				return broken
			}
			return nil
		}},
	}}
	if _, err := measure(g, minRounds, time.Microsecond); !errors.Is(err, broken) || !strings.Contains(err.Error(), "bad") {
		t.Errorf("got %v", err)
	}
}

func TestEveryGroupCanBeMeasured(t *testing.T) {
	groups, closeAll, err := allGroups()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeAll)
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			r, err := measure(g, minRounds, 20*time.Microsecond)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			if err := r.print(&out); err != nil {
				t.Fatal(err)
			}
			for _, c := range g.contenders {
				if !strings.Contains(out.String(), "  "+c.name+" ") {
					t.Errorf("the table leaves out %s:\n%s", c.name, out.String())
				}
			}
			known := func(name string) bool {
				for _, c := range g.contenders {
					if c.name == name {
						return true
					}
				}
				return false
			}
			for _, p := range g.promises {
				if !known(p.of) || !known(p.to) && p.what != allocsAtMost {
					t.Errorf("the promise %q names no contender", p.text)
				}
			}
		})
	}
}
