package main

import "fmt"

// A promise is a figure that the project stands by, checked in every run.
type promise struct {
	text string
	// what says which number is promised: a ratio of times, a difference of
	// times in nanoseconds, or a difference or number of allocations.
	what  kind
	of    string // the contender that the promise is about, A below
	to    string // the contender that it is compared with, B below, if any
	limit float64
	// tolerance widens the limit for the median where the interval reaches it:
	// a ratio of 1% cannot be told from one of 2% in a run of a minute.
	tolerance float64
}

type kind int

const (
	fasterBy     kind = iota // time of B ÷ time of A, at least limit
	slowerBy                 // time of A ÷ time of B, at most limit
	nanosMore                // time of A − time of B, at most limit
	allocsMore               // allocations of A − allocations of B, at most limit
	allocsAtMost             // allocations of A, at most limit
)

type verdict struct {
	promise promise
	got     estimate
	met     bool
}

func (v verdict) String() string {
	mark := "met    "
	if !v.met {
		mark = "NOT MET"
	}
	if v.promise.what == allocsMore || v.promise.what == allocsAtMost {
		return fmt.Sprintf("%s  %s: %.1f", mark, v.promise.text, v.got.median)
	}
	return fmt.Sprintf("%s  %s: %.4g (95%% interval %.4g–%.4g)", mark, v.promise.text, v.got.median, v.got.low, v.got.high)
}

func (r *result) verdicts() []verdict {
	out := make([]verdict, 0, len(r.group.promises))
	for _, p := range r.group.promises {
		out = append(out, r.verdict(p))
	}
	return out
}

func (r *result) verdict(p promise) verdict {
	of, to := r.index(p.of), r.index(p.to)
	divide := func(a, b float64) float64 { return a / b }
	subtract := func(a, b float64) float64 { return a - b }
	v := verdict{promise: p}
	switch p.what {
	case fasterBy:
		v.got = estimateOf(combine(r.times[to], r.times[of], divide))
		v.met = v.got.median >= p.limit || (v.got.high >= p.limit && v.got.median >= p.limit-p.tolerance)
	case slowerBy:
		v.got = estimateOf(combine(r.times[of], r.times[to], divide))
		v.met = v.got.median <= p.limit || (v.got.low <= p.limit && v.got.median <= p.limit+p.tolerance)
	case nanosMore:
		v.got = estimateOf(combine(r.times[of], r.times[to], subtract))
		v.met = v.got.median <= p.limit
	case allocsMore:
		v.got = exactly(r.allocs[of] - r.allocs[to])
		v.met = v.got.median <= p.limit+r.allocNoise()
	case allocsAtMost:
		v.got = exactly(r.allocs[of])
		v.met = v.got.median <= p.limit+r.allocNoise()
	}
	return v
}

// allocNoise is what the runtime and, with a connection, its goroutines may add
// to a count that is a whole number for each call.
func (r *result) allocNoise() float64 {
	if r.group.long {
		return 0.5
	}
	return 0.05
}

func exactly(x float64) estimate { return estimate{median: x, low: x, high: x} }

// index finds a contender by its name; the empty name is the first.
func (r *result) index(name string) int {
	for i, c := range r.group.contenders {
		if c.name == name {
			return i
		}
	}
	return 0
}
