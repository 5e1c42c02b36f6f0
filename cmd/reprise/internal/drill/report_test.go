package drill

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reprise-go/reprise/etcdcall"
)

func ms(n ...int) []time.Duration {
	dd := make([]time.Duration, len(n))
	for i := range n {
		dd[i] = time.Duration(n[i]) * time.Millisecond
	}
	return dd
}

func TestQuantileIsAMeasuredValue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		of    []time.Duration
		share float64
		want  time.Duration
	}{
		{nil, 0.5, 0},
		{ms(7), 0.5, ms(7)[0]},
		{ms(1, 2, 3, 4), 0.5, ms(2)[0]},
		{ms(1, 2, 3, 4), 0.99, ms(4)[0]},
		{ms(1, 2, 3, 4), 0, ms(1)[0]},
		{ms(1, 2, 3, 4), 1, ms(4)[0]},
	} {
		if got := quantile(c.of, c.share); got != c.want {
			t.Errorf("quantile(%v, %v) is %v, want %v", c.of, c.share, got, c.want)
		}
	}
}

func TestTheLongestGapCountsTheBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ends        []time.Duration
		from, until int
		want        int
	}{
		{nil, 10, 30, 20},
		{ms(11, 12), 10, 30, 18},
		{ms(25, 29), 10, 30, 15},
		{ms(20, 12, 28), 10, 30, 8},
		{ms(11, 20, 29, 50), 10, 30, 9},
		{ms(5, 15, 25), 10, 30, 10},
	} {
		if got := longestGap(c.ends, ms(c.from)[0], ms(c.until)[0]); got != ms(c.want)[0] {
			t.Errorf("longestGap(%v, %d, %d) is %v, want %dms", c.ends, c.from, c.until, got, c.want)
		}
	}
}

func TestASideAddsUpWhatWasOfferedUnderFaults(t *testing.T) {
	t.Parallel()
	at := func(c call, end int, faulty bool, sends int) call {
		c.due, c.end, c.faulty, c.sends = ms(end - 1)[0], ms(end)[0], faulty, sends
		return c
	}
	lost := failed("c", etcdcall.Unknown)
	lost.err = errors.New("lost")
	var s Side
	s.summarise([]call{
		at(acked("a"), 500, false, 1),
		at(acked("b"), 1100, true, 3),
		at(read("b", 2, 0), 1200, true, 1),
		at(lost, 1300, true, 2),
		at(failed("d", etcdcall.NotApplied), 1400, true, 1),
		at(call{key: "k"}, 1500, true, 1),
	}, time.Second, 2*time.Second)
	want := Side{
		Calls: 5, Acknowledged: 2, Retried: 2, Ambiguous: 1, Failed: 2,
		LongestGap: 0.8, P50: 0.001, P99: 0.001, Throughput: 2, Errors: map[string]int{"lost": 1},
	}
	if got, want := asJSON(t, s), asJSON(t, want); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOnlyTheFirstSideIsJudged(t *testing.T) {
	t.Parallel()
	good := Side{Name: Reprise, Throughput: 51, Undisturbed: 100}
	bad := Side{Name: Clientv3, Judgement: Judgement{Missing: 1, Twice: 2}}
	r := Report{Sides: []Side{good, bad}}
	if r.conclude(); !r.OK || len(r.Reasons) > 0 {
		t.Errorf("got %v, want the faults of the other side forgiven", r.Reasons)
	}
	for name, spoil := range map[string]func(*Side){
		"missing":     func(s *Side) { s.Judgement.Missing = 1 },
		"twice":       func(s *Side) { s.Judgement.Twice = 1 },
		"after all":   func(s *Side) { s.Judgement.AppliedFails = 1 },
		"wrong reads": func(s *Side) { s.Judgement.WrongReads = 1 },
		"stale reads": func(s *Side) { s.Judgement.StaleReads = 1 },
		"slow":        func(s *Side) { s.Throughput = 49 },
	} {
		s := good
		spoil(&s)
		r := Report{Sides: []Side{s, bad}}
		if r.conclude(); r.OK || len(r.Reasons) != 1 {
			t.Errorf("%s: got %v, want one reason", name, r.Reasons)
		}
	}
}

func TestTheJSONHasEveryField(t *testing.T) {
	t.Parallel()
	r := Report{Faults: true, Sides: []Side{{Name: Reprise, Faults: map[Fault]int{KillLeader: 1}}}}
	r.conclude()
	var got map[string]any
	if err := json.Unmarshal([]byte(asJSON(t, r)), &got); err != nil {
		t.Fatal(err)
	}
	side := got["sides"].([]any)[0].(map[string]any)
	for _, c := range []struct {
		of   map[string]any
		want string
	}{
		{got, "clients deadline_seconds exactly_once offered_calls_per_second ok reasons seconds seed sides with_faults"},
		{side, "acknowledged ambiguous calls contests errors failed faults judgement longest_gap_seconds name p50_seconds p99_seconds retried throughput_per_second undisturbed_per_second watch writes_in_history"},
		{side["judgement"].(map[string]any), "acknowledged_writes_missing failed_writes_applied reads_against_the_history reads_older_than_known_state writes_applied_twice"},
	} {
		var keys []string
		for k := range c.of {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if got := strings.Join(keys, " "); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestTheTableShowsBothSides(t *testing.T) {
	t.Parallel()
	r := Report{Seed: 7, Rate: 500, Clients: 4, Deadline: 10, Faults: true, Sides: []Side{
		{Name: Reprise, Calls: 11, Faults: map[Fault]int{KillLeader: 5}, LongestGap: 0.1234},
		{Name: Clientv3, Calls: 12, Judgement: Judgement{Twice: 3}},
	}}
	r.conclude()
	var b bytes.Buffer
	if err := r.Table(&b); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{
		"reprise clientv3 calls 11 12", "writes applied twice 0 3", "without a success 123.4ms 0s",
		"faults: kill the leader 5 0", "seed 7; 500 calls a second", "reprise kept its promises",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if err := r.Table(broken{}); err == nil {
		t.Error("no error from a writer that fails")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, bytes.ErrTooLarge }

func TestNonsenseIsRefused(t *testing.T) {
	t.Parallel()
	ok := Config{Duration: time.Second, Rate: 1, Clients: 1, Timeout: time.Second}
	if err := ok.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"duration": func(c *Config) { c.Duration = math.MinInt64 },
		"timeout":  func(c *Config) { c.Timeout = 0 },
		"rate":     func(c *Config) { c.Rate = maxRate + 1 },
		"clients":  func(c *Config) { c.Clients = 0 },
		"prefix":   func(c *Config) { c.Target = &Target{} },
		"endpoint": func(c *Config) { c.Target = &Target{Prefix: "p"} },
	} {
		c := ok
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := Run(t.Context(), c); err == nil {
			t.Errorf("%s: it ran", name)
		}
	}
}
