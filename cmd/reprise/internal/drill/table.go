package drill

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Table writes the report for people to read.
func (r *Report) Table(w io.Writer) error {
	for _, row := range r.rows() {
		var line strings.Builder
		fmt.Fprintf(&line, "%-39s", row[0])
		for _, cell := range row[1:] {
			fmt.Fprintf(&line, "%12s", cell)
		}
		if _, err := fmt.Fprintln(w, line.String()); err != nil {
			return err
		}
	}
	writes := Reprise + " wrote exactly once"
	if !r.Once {
		writes = Reprise + " wrote without exactly-once"
	}
	verdict := Reprise + " kept its promises\n"
	if !r.OK {
		verdict = strings.Join(r.Reasons, "\n") + "\n"
	}
	_, err := fmt.Fprintf(w, "\nseed %d; %d calls a second offered by %d clients, deadline %v each\n%s\n%s",
		r.Seed, r.Rate, r.Clients, seconds(r.Deadline), writes, verdict)
	return err
}

// rows is the table; the first cell of each row names it.
func (r *Report) rows() [][]string {
	rows := [][]string{{""}}
	for _, s := range r.Sides {
		rows[0] = append(rows[0], s.Name)
	}
	row := func(name string, cell func(s *Side) string) {
		cells := []string{name}
		for i := range r.Sides {
			cells = append(cells, cell(&r.Sides[i]))
		}
		rows = append(rows, cells)
	}
	count := func(name string, n func(s *Side) int) {
		row(name, func(s *Side) string { return strconv.Itoa(n(s)) })
	}
	count("calls", func(s *Side) int { return s.Calls })
	count("acknowledged", func(s *Side) int { return s.Acknowledged })
	count("retried", func(s *Side) int { return s.Retried })
	count("ambiguous", func(s *Side) int { return s.Ambiguous })
	count("failed", func(s *Side) int { return s.Failed })
	count("acknowledged writes missing", func(s *Side) int { return s.Judgement.Missing })
	count("writes applied twice", func(s *Side) int { return s.Judgement.Twice })
	count("failed writes applied after all", func(s *Side) int { return s.Judgement.AppliedFails })
	count("reads wrong or stale", func(s *Side) int { return s.Judgement.WrongReads + s.Judgement.StaleReads })
	row("longest time without a success", func(s *Side) string { return seconds(s.LongestGap).String() })
	row("p50", func(s *Side) string { return seconds(s.P50).String() })
	row("p99", func(s *Side) string { return seconds(s.P99).String() })
	watch := func(name string, cell func(w *Watching) string) {
		row(name, func(s *Side) string {
			if s.Watch == nil {
				return ""
			}
			return cell(s.Watch)
		})
	}
	watch("watchers: events", func(w *Watching) string { return strconv.Itoa(w.Events) })
	watch("watchers: guarantees broken", func(w *Watching) string { return strconv.Itoa(w.Violations) })
	watch("watchers: ended unasked", func(w *Watching) string { return strconv.Itoa(w.Ended) })
	watch("watchers: p99 behind the writer", func(w *Watching) string { return seconds(w.Behind).String() })
	for _, name := range []string{"lock", "election"} {
		contest := func(what string, cell func(c *Contending) string) {
			row(name+": "+what, func(s *Side) string {
				if c := s.Contests[name]; c != nil {
					return cell(c)
				}
				return ""
			})
		}
		contest("turns", func(c *Contending) string { return strconv.Itoa(c.Turns) })
		contest("turns that overlapped", func(c *Contending) string { return strconv.Itoa(c.Overlaps) })
		contest("calls that failed", func(c *Contending) string { return strconv.Itoa(c.Failed) })
		contest("longest time without a turn", func(c *Contending) string { return seconds(c.LongestGap).String() })
	}
	row("successes a second", func(s *Side) string { return fmt.Sprintf("%.0f", s.Throughput) })
	if !r.Faults {
		return rows
	}
	row("the same without faults", func(s *Side) string { return fmt.Sprintf("%.0f", s.Undisturbed) })
	for _, f := range Faults() {
		count("faults: "+string(f), func(s *Side) int { return s.Faults[f] })
	}
	return rows
}

// seconds rounds to what a reader can use.
func seconds(s float64) time.Duration {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond)
	default:
		return d.Round(time.Microsecond)
	}
}
