package drill

import (
	"slices"
	"testing"
	"time"

	"github.com/reprise-go/reprise/integration/check"
)

func TestAWatcherThatMissesAnEventIsFound(t *testing.T) {
	t.Parallel()
	log := history("a", "b", "end")
	for name, c := range map[string]struct {
		given []int
		want  int
	}{
		"all of it":      {[]int{0, 1, 2}, 0},
		"one left out":   {[]int{0, 2}, 1},
		"one repeated":   {[]int{0, 1, 1, 2}, 1},
		"nothing at all": {nil, 4}, // three left out, and the first of them late
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one := &watcher{watch: check.Watch{From: 2}}
			for _, i := range c.given {
				one.watch.Record(log.Events[i:i+1], 0)
			}
			r := Report{Sides: []Side{{Name: Reprise}}}
			w := &watchers{list: []*watcher{one}}
			w.report(log, nil, &r.Sides[0])
			if got := r.Sides[0].Watch; got.Violations != c.want || got.Events != len(c.given) {
				t.Errorf("got %+v, want %d violations", got, c.want)
			}
			if r.conclude(); r.OK != (c.want == 0) {
				t.Errorf("the verdict is %v: %v", r.OK, r.Reasons)
			}
		})
	}
}

func TestWatchersAreTimedFromTheAcknowledgement(t *testing.T) {
	t.Parallel()
	log := history("a", "b")
	one := &watcher{watch: check.Watch{From: 2}, seen: map[string]time.Duration{"a": ms(130)[0], "b": ms(5)[0]}}
	one.watch.Record(log.Events, 0)
	late, early := acked("a"), acked("b")
	late.faulty, late.end = true, ms(100)[0]
	early.faulty, early.end = true, ms(10)[0]
	var s Side
	(&watchers{list: []*watcher{one}}).report(log, slices.Concat([]call{late, early}), &s)
	if s.Watch.Behind != 0.03 {
		t.Errorf("got %v behind, want 30ms", s.Watch.Behind)
	}
}
