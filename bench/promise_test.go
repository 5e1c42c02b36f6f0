package main

import "testing"

func TestAPromiseIsMetExactlyWithinItsLimit(t *testing.T) {
	t.Parallel()
	const rounds = 20
	constant := func(v float64) []float64 {
		x := make([]float64, rounds)
		for i := range x {
			x[i] = v
		}
		return x
	}
	spread := func(from, to float64) []float64 {
		x := make([]float64, rounds)
		for i := range x {
			x[i] = from + (to-from)*float64(i)/(rounds-1)
		}
		return x
	}
	for _, c := range []struct {
		name   string
		what   kind
		of, to []float64
		allocs [2]float64
		limit  float64
		leeway float64
		want   bool
	}{
		{name: "faster, just", what: fasterBy, of: constant(10), to: constant(50), limit: 5, want: true},
		{name: "faster, not quite", what: fasterBy, of: constant(10), to: constant(49), limit: 5},
		{name: "slower, just", what: slowerBy, of: constant(101), to: constant(100), limit: 1.01, want: true},
		{name: "slower, too much", what: slowerBy, of: constant(102), to: constant(100), limit: 1.01},
		{name: "slower by 2%, the interval reaches the limit", what: slowerBy, of: spread(97, 107), to: constant(100), limit: 1.01, leeway: 0.02, want: true},
		{name: "slower by 2%, the interval does not reach it", what: slowerBy, of: constant(102), to: constant(100), limit: 1.01, leeway: 0.02},
		{name: "slower by 4%, whatever the interval", what: slowerBy, of: spread(80, 128), to: constant(100), limit: 1.01, leeway: 0.02},
		{name: "nanoseconds, just", what: nanosMore, of: constant(130), to: constant(100), limit: 30, want: true},
		{name: "nanoseconds, too many", what: nanosMore, of: constant(131), to: constant(100), limit: 30},
		{name: "as many allocations", what: allocsMore, of: constant(1), to: constant(1), allocs: [2]float64{4, 4}, want: true},
		{name: "one allocation more", what: allocsMore, of: constant(1), to: constant(1), allocs: [2]float64{5, 4}},
		{name: "no allocation", what: allocsAtMost, of: constant(1), to: constant(1), allocs: [2]float64{0.001, 9}, want: true},
		{name: "one allocation", what: allocsAtMost, of: constant(1), to: constant(1), allocs: [2]float64{1, 9}},
		{name: "one allocation in ten calls", what: allocsAtMost, of: constant(1), to: constant(1), allocs: [2]float64{0.1, 9}},
	} {
		p := promise{text: c.name, what: c.what, of: "of", to: "to", limit: c.limit, tolerance: c.leeway}
		r := result{
			group:  group{contenders: []contender{{name: "of"}, {name: "to"}}, promises: []promise{p}},
			times:  [][]float64{c.of, c.to},
			allocs: c.allocs[:],
		}
		if v := r.verdicts()[0]; v.met != c.want {
			t.Errorf("%s", v)
		}
	}
}
