package parity

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/googleapis/gax-go/v2"
	"github.com/reprise-go/reprise"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestScriptedCallsTakeTheSameCourseThroughBoth(t *testing.T) {
	t.Parallel()
	const scripts = 20_000
	rng := rand.New(rand.NewPCG(2, 4))
	kinds, ends, retried := map[kind]int{}, map[end]int{}, 0
	synctest.Test(t, func(t *testing.T) {
		failed := 0
		for i := range scripts {
			s := random(rng)
			g, r := play(s, byGax), play(s, byReprise)
			if diff := compare(s, g, r); diff != "" {
				if failed++; failed <= 5 {
					t.Errorf("script %d: %s\n%s\ngax-go  %+v\nReprise %+v", i, diff, s, g, r)
				}
			}
			kinds[s.policy.kind]++
			ends[s.end]++
			retried += len(r.starts) - 1
		}
		if failed > 0 {
			t.Errorf("%d of %d scripts differ", failed, scripts)
		}
	})
	t.Logf("%d scripts compared, by kind of policy %v, by end of the context %v, with %d retries", scripts, kinds, ends, retried)
	if len(kinds) != kindCount || len(ends) != 3 || retried < scripts/2 {
		t.Error("the scripts leave a kind out")
	}
}

// compare returns what the two traces of a script do not have in common although
// both libraries promise it, or "".
func compare(s script, g, r trace) string {
	want := func(what string, gax, reprise any) string {
		return fmt.Sprintf("%s: %v through gax-go, %v through Reprise", what, gax, reprise)
	}
	switch {
	case len(g.starts) != len(r.starts):
		return want("attempts", len(g.starts), len(r.starts))
	case g.makers != r.makers:
		return want("Retryers made", g.makers, r.makers)
	case g.options != r.options:
		return want("gRPC options", g.options, r.options)
	case code(g.err) != code(r.err):
		return want("code", code(g.err), code(r.err))
	case g.end < r.end && s.policy.kind == fixed:
		return want("end", g.end, r.end)
	}
	for _, err := range s.errs {
		if err != nil && errors.Is(g.err, err) && !errors.Is(r.err, err) {
			return want("error", g.err, r.err)
		}
	}
	gp, rp := g.pauses(s.took), r.pauses(s.took)
	if s.policy.kind == fixed {
		if !slices.Equal(gp, rp) {
			return want("pauses", gp, rp)
		}
		return ""
	}
	for i := range gp {
		limit := s.policy.envelope(i)
		if gp[i] <= 0 || gp[i] > limit || rp[i] <= 0 || rp[i] > limit {
			return want(fmt.Sprintf("pause %d of at most %v", i, limit), gp[i], rp[i])
		}
	}
	return ""
}

func TestTheComparisonFindsADifference(t *testing.T) {
	t.Parallel()
	unavailable := status.Error(codes.Unavailable, "u")
	s := script{errs: []error{unavailable}, policy: policy{kind: onCodes, initial: time.Second, max: time.Second}}
	same := trace{starts: []time.Duration{0, time.Second}, makers: 1, options: 2, err: unavailable, end: time.Second}
	if diff := compare(s, same, same); diff != "" {
		t.Errorf("equal traces: %s", diff)
	}
	known := s
	known.policy = policy{kind: fixed, pauses: []time.Duration{time.Second}}
	for name, c := range map[string]struct {
		script script
		broken func(tr *trace)
	}{
		"an attempt more":         {s, func(tr *trace) { tr.starts = append(tr.starts, 2*time.Second) }},
		"an attempt less":         {s, func(tr *trace) { tr.starts = tr.starts[:1] }},
		"another Retryer":         {s, func(tr *trace) { tr.makers = 2 }},
		"lost options":            {s, func(tr *trace) { tr.options = 1 }},
		"no error":                {s, func(tr *trace) { tr.err = nil }},
		"another error":           {s, func(tr *trace) { tr.err = status.Error(codes.Unavailable, "other") }},
		"another code":            {s, func(tr *trace) { tr.err = status.Error(codes.NotFound, "u") }},
		"no pause":                {s, func(tr *trace) { tr.starts = []time.Duration{0, 0} }},
		"a pause beyond the cap":  {s, func(tr *trace) { tr.starts = []time.Duration{0, time.Second + 1} }},
		"not the Retryer's pause": {known, func(tr *trace) { tr.starts = []time.Duration{0, time.Second - 1} }},
		"a later end":             {known, func(tr *trace) { tr.end++ }},
	} {
		broken := same
		broken.starts = slices.Clone(same.starts)
		c.broken(&broken)
		if compare(c.script, same, broken) == "" {
			t.Errorf("%s was not found", name)
		}
	}
}

func TestPausesHaveTheSameDistribution(t *testing.T) {
	t.Parallel()
	const (
		samples = 60_000
		buckets = 20
		depth   = 4
	)
	var gaxCount, repriseCount [depth][buckets]float64
	p := policy{initial: 100 * time.Millisecond, max: 450 * time.Millisecond, multiplier: 1.7}
	for range samples {
		g := gax.Backoff{Initial: p.initial, Max: p.max, Multiplier: p.multiplier}
		r := reprise.Backoff{Initial: p.initial, Max: p.max, Multiplier: p.multiplier}
		for n := range depth {
			bucket := func(d time.Duration) int { return int(buckets * (d - 1) / p.envelope(n)) }
			gaxCount[n][bucket(g.Pause())]++
			repriseCount[n][bucket(r.Pause())]++
		}
	}
	for n := range depth {
		// Pearson's χ² of two samples of one size; 19 degrees of freedom exceed
		// 70 once in ten million times.
		chi := 0.0
		for b := range buckets {
			d := gaxCount[n][b] - repriseCount[n][b]
			chi += d * d / (gaxCount[n][b] + repriseCount[n][b])
		}
		if chi > 70 {
			t.Errorf("pause %d: χ² = %.1f\ngax-go  %v\nReprise %v", n, chi, gaxCount[n], repriseCount[n])
		}
	}
}

func TestHeadersAreTheSame(t *testing.T) {
	t.Parallel()
	for n := range 6 {
		pairs := make([]string, 0, 2*n)
		for i := range n {
			pairs = append(pairs, fmt.Sprintf("key%d", i), fmt.Sprintf("%d.0", i))
		}
		if g, r := gax.XGoogHeader(pairs...), reprise.XGoogHeader(pairs...); g != r {
			t.Errorf("%q: %q through gax-go, %q through Reprise", pairs, g, r)
		}
	}
	if gax.GoVersion != reprise.GoVersion {
		t.Errorf("GoVersion: %q through gax-go, %q through Reprise", gax.GoVersion, reprise.GoVersion)
	}
}
