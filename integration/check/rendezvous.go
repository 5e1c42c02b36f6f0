package check

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Standing is one time that a barrier stood, as who raised it saw it.
type Standing struct {
	// Raised is when the barrier was known to stand, Released when it was about
	// to be released.
	Raised, Released time.Time
}

// A Passage is one time that somebody waited at a barrier and passed.
type Passage struct {
	Who             string
	Arrived, Passed time.Time
}

// Stopped says whether anybody who came to a barrier while it stood passed
// before it was released. It compares times, so that all must have one clock.
func Stopped(standings []Standing, passages []Passage) error {
	var errs []error
	for _, p := range passages {
		for _, s := range standings {
			if !p.Arrived.Before(s.Raised) && p.Passed.Before(s.Released) {
				errs = append(errs, fmt.Errorf("check: %s passed the barrier %v before it was released", p.Who, s.Released.Sub(p.Passed)))
				break
			}
		}
	}
	return errors.Join(errs...)
}

// A Stay is one round of one member of a double barrier.
type Stay struct {
	Round  int
	Member string
	// Enter and Leave are when the member asked to begin and to end, Begun and
	// Ended when it was told that all had.
	Enter, Begun, Leave, Ended time.Time
}

// Together says whether in each round count members were there, none of which
// began before all had asked to enter, or ended before all had asked to leave.
// It compares times, so that all must have one clock.
func Together(stays []Stay, count int) error {
	rounds := make(map[int][]Stay)
	for _, s := range stays {
		rounds[s.Round] = append(rounds[s.Round], s)
	}
	var errs []error
	for n, round := range rounds {
		if len(round) != count {
			errs = append(errs, fmt.Errorf("check: %d members were in round %d, not %d", len(round), n, count))
		}
		latest := func(of func(Stay) time.Time) time.Time {
			return of(slices.MaxFunc(round, func(a, b Stay) int { return of(a).Compare(of(b)) }))
		}
		entered := latest(func(s Stay) time.Time { return s.Enter })
		left := latest(func(s Stay) time.Time { return s.Leave })
		for _, s := range round {
			if s.Begun.Before(entered) {
				errs = append(errs, fmt.Errorf("check: %s began round %d %v before all had entered", s.Member, n, entered.Sub(s.Begun)))
			}
			if s.Ended.Before(left) {
				errs = append(errs, fmt.Errorf("check: %s ended round %d %v before all had left", s.Member, n, left.Sub(s.Ended)))
			}
		}
	}
	return errors.Join(errs...)
}
