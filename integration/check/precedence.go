package check

import "fmt"

// precedence is a graph of what must come before what.
type precedence struct {
	names []string
	edges [][]edge
}

type edge struct {
	to  int
	why string
}

func (p *precedence) node(name string) int {
	p.names, p.edges = append(p.names, name), append(p.edges, nil)
	return len(p.names) - 1
}

// before notes that a comes before b, unless they are the same.
func (p *precedence) before(a, b int, why string) {
	if a != b {
		p.edges[a] = append(p.edges[a], edge{b, why})
	}
}

// cycle returns a shortest cycle, one reason a step, or nil if there is none.
func (p *precedence) cycle() []string {
	var shortest []string
	for _, node := range p.knotted() {
		if len(shortest) == 2 {
			break
		}
		if c := p.cycleFrom(node); c != nil && (shortest == nil || len(c) < len(shortest)) {
			shortest = c
		}
	}
	return shortest
}

// knotted returns the nodes that are left when all have been taken away, again
// and again, that nothing comes before (Kahn 1962).
func (p *precedence) knotted() []int {
	preceding := make([]int, len(p.names))
	for _, edges := range p.edges {
		for _, e := range edges {
			preceding[e.to]++
		}
	}
	var free []int
	for node, n := range preceding {
		if n == 0 {
			free = append(free, node)
		}
	}
	for len(free) > 0 {
		node := free[len(free)-1]
		free = free[:len(free)-1]
		for _, e := range p.edges[node] {
			if preceding[e.to]--; preceding[e.to] == 0 {
				free = append(free, e.to)
			}
		}
	}
	var left []int
	for node, n := range preceding {
		if n > 0 {
			left = append(left, node)
		}
	}
	return left
}

// cycleFrom searches for a shortest way from a node back to it.
func (p *precedence) cycleFrom(start int) []string {
	type step struct {
		from int
		why  string
	}
	came := make(map[int]step)
	for queue := []int{start}; len(queue) > 0; queue = queue[1:] {
		node := queue[0]
		for _, e := range p.edges[node] {
			if _, seen := came[e.to]; seen {
				continue
			}
			came[e.to] = step{node, e.why}
			if e.to != start {
				queue = append(queue, e.to)
				continue
			}
			var way []string
			for at := start; len(way) == 0 || at != start; at = came[at].from {
				way = append([]string{fmt.Sprintf("%s %s %s", p.names[came[at].from], came[at].why, p.names[at])}, way...)
			}
			return way
		}
	}
	return nil
}
