package oncemodel

import (
	"fmt"
	"slices"
	"strings"
)

// model explores one variant within one set of bounds.
type model struct {
	variant
	bounds

	index  map[state]struct{}
	queue  []state
	origin []step
	at     int32

	violation string
	trace     []step

	reached   [crashed + 1]bool
	recovered bool
	fenced    bool
	settled   bool // a call that could not be sealed
}

type step struct {
	parent int32
	label  string
	who    uint8
}

// explore visits every state, breadth first, until the first violation.
func explore(v variant, b bounds) *model {
	m := &model{variant: v, bounds: b, index: make(map[state]struct{})}
	start := state{userLease: true, left: b.left}
	m.at = -1
	m.emit(start, "start", 0, "")
	for i := 0; i < len(m.queue) && m.violation == ""; i++ {
		m.at = int32(i)
		s := m.queue[i]
		m.networkSteps(s)
		for c := range uint8(maxClients) {
			m.clientSteps(s, c)
		}
		m.environmentSteps(s)
	}
	return m
}

// emit adds a state reached from the one that is being expanded.
func (m *model) emit(s state, label string, who uint8, bad string) {
	if m.violation != "" {
		return
	}
	if _, seen := m.index[s]; seen && bad == "" {
		return
	}
	m.index[s] = struct{}{}
	m.queue = append(m.queue, s)
	m.origin = append(m.origin, step{m.at, label, who})
	if bad != "" {
		m.violation = bad
		for at := int32(len(m.origin) - 1); at > 0; at = m.origin[at].parent {
			m.trace = append(m.trace, m.origin[at])
		}
	}
}

func (m *model) run() string {
	var b strings.Builder
	for i, step := range slices.Backward(m.trace) {
		fmt.Fprintf(&b, "  %2d. %s (%d)\n", len(m.trace)-i, step.label, step.who)
	}
	return b.String()
}
