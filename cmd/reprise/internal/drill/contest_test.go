package drill

import "testing"

func TestTurnsThatOverlapAreFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		log  []string
		want int
	}{
		"nothing":                  {nil, 0},
		"one after the other":      {[]string{"enters a", "leaves a", "enters b", "leaves b"}, 0},
		"one within the other":     {[]string{"enters a", "enters b", "leaves b", "leaves a"}, 1},
		"one into the other":       {[]string{"enters a", "enters b", "leaves a", "leaves b"}, 1},
		"three at once":            {[]string{"enters a", "enters b", "enters c", "leaves a", "leaves b", "leaves c"}, 3},
		"an end that was not said": {[]string{"enters a", "enters b", "leaves b"}, 0},
		"a begin that was not":     {[]string{"enters a", "leaves a", "leaves b", "enters c", "leaves c"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := history(c.log...)
			if got := overlaps(log, "k"); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
			if got := overlaps(log, "another key"); got != 0 {
				t.Errorf("got %d at another key", got)
			}
			r := Report{Sides: []Side{{Name: Reprise, Contests: map[string]*Contending{"lock": {Overlaps: c.want}}}}}
			if r.conclude(); r.OK != (c.want == 0) {
				t.Errorf("the verdict is %v: %v", r.OK, r.Reasons)
			}
		})
	}
}
