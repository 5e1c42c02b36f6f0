package drill

import "time"

// An Observer is told how a drill goes on. Its methods are called one after
// the other.
type Observer interface {
	// Begin is called when a side begins something that takes a while.
	Begin(p Phase)
	// Struck is called when a fault strikes.
	Struck(side string, fault Fault)
	// End is called when a phase is over.
	End(p Phase)
}

// A Phase is a part of what a side does.
type Phase struct {
	Side  string
	Name  string        // such as "under faults"
	Takes time.Duration // about; zero if that is not known
	Count func() Count  // what came of the calls so far
}

// Count is what came of the calls of a side so far.
type Count struct {
	Offered, Acknowledged, Failed int64
}

// UnderWay is how many calls have not ended.
func (c Count) UnderWay() int64 { return c.Offered - c.Acknowledged - c.Failed }

// nobody watches.
type nobody struct{}

func (nobody) Begin(Phase)          {}
func (nobody) Struck(string, Fault) {}
func (nobody) End(Phase)            {}
