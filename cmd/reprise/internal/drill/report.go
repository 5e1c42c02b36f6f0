package drill

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/reprise-go/reprise/etcdcall"
)

// A Report is the result of a drill.
type Report struct {
	Seed     uint64   `json:"seed"`
	Seconds  float64  `json:"seconds"` // under faults, or under load if there were none
	Rate     int      `json:"offered_calls_per_second"`
	Clients  int      `json:"clients"`
	Deadline float64  `json:"deadline_seconds"` // of each call
	Faults   bool     `json:"with_faults"`
	Once     bool     `json:"exactly_once"` // whether Reprise's writes were exactly-once writes
	Sides    []Side   `json:"sides"`
	OK       bool     `json:"ok"`      // whether Reprise kept its promises
	Reasons  []string `json:"reasons"` // why not
}

// A Side is what came of one side's calls. Times and counts are those of the
// calls offered under faults; what is judged from the history covers all.
type Side struct {
	Name         string                 `json:"name"`
	Faults       map[Fault]int          `json:"faults"`
	Calls        int                    `json:"calls"`
	Acknowledged int                    `json:"acknowledged"`
	Retried      int                    `json:"retried"`                // calls that were attempted more than once
	Ambiguous    int                    `json:"ambiguous"`              // writes that ended without anybody knowing whether they happened
	Failed       int                    `json:"failed"`                 // reads without an answer, and writes known not to have happened
	Judgement    Judgement              `json:"judgement"`              // from the history
	Watch        *Watching              `json:"watch"`                  // what watchers of all keys were given
	Contests     map[string]*Contending `json:"contests"`               // of a lock and of an election
	LongestGap   float64                `json:"longest_gap_seconds"`    // seconds without a success
	P50          float64                `json:"p50_seconds"`            // of acknowledged calls
	P99          float64                `json:"p99_seconds"`            //
	Throughput   float64                `json:"throughput_per_second"`  // acknowledged calls a second
	Undisturbed  float64                `json:"undisturbed_per_second"` // the same, before the faults
	Writes       int                    `json:"writes_in_history"`      // in the whole history
	Errors       map[string]int         `json:"errors"`                 // how calls ended that were not acknowledged
}

// summarise adds up the calls that were offered between from and until, under
// faults.
func (s *Side) summarise(list []call, from, until time.Duration) {
	var latencies, ends []time.Duration
	s.Errors = make(map[string]int)
	for _, c := range list {
		if !c.faulty {
			continue
		}
		s.Calls++
		if c.err != nil {
			s.Errors[c.err.Error()]++
		}
		if c.sends > 1 {
			s.Retried++
		}
		switch {
		case c.acked:
			s.Acknowledged++
			latencies = append(latencies, c.end-c.due)
			ends = append(ends, c.end)
		case c.write && c.outcome != etcdcall.NotApplied:
			s.Ambiguous++
		default:
			s.Failed++
		}
	}
	slices.Sort(latencies)
	s.P50, s.P99 = quantile(latencies, 0.5).Seconds(), quantile(latencies, 0.99).Seconds()
	s.LongestGap = longestGap(ends, from, until).Seconds()
	s.Throughput = throughput(list, from, until)
}

// quantile returns the smallest of the sorted values that is not below the
// given share of them.
func quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(math.Ceil(share*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// longestGap returns the longest time between two successes, the bounds
// counted as successes.
func longestGap(ends []time.Duration, from, until time.Duration) time.Duration {
	slices.Sort(ends)
	last, gap := from, time.Duration(0)
	for _, end := range ends {
		if end > until {
			break
		}
		gap = max(gap, end-last)
		last = max(last, end)
	}
	return max(gap, until-last)
}

// throughput counts the successes between from and until, for each second.
func throughput(list []call, from, until time.Duration) float64 {
	n := 0
	for _, c := range list {
		if c.acked && from <= c.end && c.end < until {
			n++
		}
	}
	if until <= from {
		return 0
	}
	return float64(n) / (until - from).Seconds()
}

// conclude says whether the first side kept its promises.
func (r *Report) conclude() {
	r.Reasons = []string{}
	s := r.Sides[0]
	broken := func(n int, what string) {
		if n > 0 {
			r.Reasons = append(r.Reasons, fmt.Sprintf("%s: %d %s", s.Name, n, what))
		}
	}
	broken(s.Judgement.Missing, "acknowledged writes are missing")
	broken(s.Judgement.Twice, "writes were applied twice")
	broken(s.Judgement.AppliedFails, "writes were applied though their caller was told that they were not")
	broken(s.Judgement.WrongReads, "reads contradict the history")
	broken(s.Judgement.StaleReads, "reads were older than what was known before")
	if s.Watch != nil {
		broken(s.Watch.Violations, "guarantees to watchers were broken")
	}
	for name, c := range s.Contests {
		broken(c.Overlaps, "turns overlapped that the "+name+" should keep apart")
	}
	if s.Throughput < s.Undisturbed/2 {
		r.Reasons = append(r.Reasons, fmt.Sprintf("%s: %.0f calls a second under faults, less than half of %.0f without", s.Name, s.Throughput, s.Undisturbed))
	}
	r.OK = len(r.Reasons) == 0
}
