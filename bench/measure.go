package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// A group is one kind of call, made by several contenders. The first is the
// reference that the others are compared with.
type group struct {
	name       string
	contenders []contender
	promises   []promise
	// long spreads each round over more alternations, for calls whose noise is
	// large beside the difference that matters.
	long bool
}

// A contender makes n calls and returns the error that should not have come.
type contender struct {
	name  string
	calls func(n int) error
}

// result holds what measuring a group showed, by contender.
type result struct {
	group  group
	times  [][]float64 // nanoseconds a call, in the order of the rounds
	allocs []float64   // allocations a call
	bytes  []float64
}

// measure gives every contender of g the processor in turn, for about a slice at
// a time, so that what disturbs the machine disturbs all of them alike.
func measure(g group, rounds int, slice time.Duration) (*result, error) {
	res := &result{group: g}
	counts := make([]int, len(g.contenders))
	for i, c := range g.contenders {
		n, err := calibrate(c, slice)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", g.name, c.name, err)
		}
		counts[i] = n
		allocs, bytes, err := allocations(c, max(n/10, 100))
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", g.name, c.name, err)
		}
		res.allocs = append(res.allocs, allocs)
		res.bytes = append(res.bytes, bytes)
	}
	turns := 4
	if g.long {
		turns = 40
	}
	res.times = make([][]float64, len(g.contenders))
	for round := range rounds {
		runtime.GC()
		spent := make([]time.Duration, len(g.contenders))
		for turn := range turns {
			for k := range g.contenders {
				// There and back again: no contender always follows the same one.
				i := (k + round) % len(g.contenders)
				if turn%2 == 1 {
					i = len(g.contenders) - 1 - i
				}
				start := time.Now()
				if err := g.contenders[i].calls(counts[i]); err != nil {
					return nil, fmt.Errorf("%s, %s: %w", g.name, g.contenders[i].name, err)
				}
				spent[i] += time.Since(start)
			}
		}
		for i, d := range spent {
			res.times[i] = append(res.times[i], float64(d)/float64(counts[i]*turns))
		}
	}
	return res, nil
}

// calibrate finds how many calls take about d.
func calibrate(c contender, d time.Duration) (int, error) {
	for n := 1; ; n *= 2 {
		start := time.Now()
		if err := c.calls(n); err != nil {
			return 0, err
		}
		if took := time.Since(start); took >= d/2 || n >= 1<<28 {
			return max(1, int(float64(n)*float64(d)/float64(max(took, 1)))), nil
		}
	}
}

// allocations counts what n calls allocate, in all goroutines.
func allocations(c contender, n int) (count, bytes float64, err error) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	err = c.calls(n)
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n),
		float64(after.TotalAlloc-before.TotalAlloc) / float64(n), err
}

func (r *result) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "\n%s\tns/call\tallocs\tbytes\ttimes %s\t95%% interval\n", r.group.name, r.group.contenders[0].name)
	for i, c := range r.group.contenders {
		ratio := estimateOf(combine(r.times[i], r.times[0], func(a, b float64) float64 { return a / b }))
		fmt.Fprintf(tw, "  %s\t%.1f\t%.1f\t%.0f\t%.3g\t%.3g–%.3g\n",
			c.name, median(r.times[i]), r.allocs[i], r.bytes[i], ratio.median, ratio.low, ratio.high)
	}
	return tw.Flush()
}

// combine joins the figures of two contenders round by round.
func combine(a, b []float64, f func(a, b float64) float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = f(a[i], b[i])
	}
	return out
}

// An estimate is a median and the interval that holds the true one with a
// probability of at least 95%, whatever the distribution.
type estimate struct{ median, low, high float64 }

func median(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// minRounds is the smallest sample whose extremes enclose the median with a
// probability of 95%.
const minRounds = 6

// estimateOf uses the order statistics: the number of values below the true
// median is binomial with p = ½, so the k-th smallest and the k-th largest miss
// it with a probability of 2·P(B < k).
func estimateOf(x []float64) estimate {
	s := slices.Sorted(slices.Values(x))
	n := len(s)
	k, below, term := 0, 0.0, 1.0
	for range n {
		term /= 2
	}
	for below+term <= 0.025 {
		below += term
		term *= float64(n-k) / float64(k+1)
		k++
	}
	k = max(k, 1)
	return estimate{median: median(s), low: s[k-1], high: s[n-k]}
}
