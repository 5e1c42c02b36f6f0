package check

import (
	"slices"
	"sync"
	"time"
)

// Kind is what an [Op] does.
type Kind int

// The kinds of operations.
const (
	Get    Kind = iota // read a key
	Put                // set it, whatever it was
	Delete             // delete it
	CAS                // set it if it has the value Old
)

// Outcome is what a client knows about an operation.
type Outcome int

// The outcomes of an operation.
const (
	Unknown    Outcome = iota // it may have happened, or happen later
	Applied                   // it happened; for a [CAS], see Swapped
	NotApplied                // it did not happen, and never will
)

// An Op is one operation of one client on one key.
type Op struct {
	Client  int
	Kind    Kind
	Key     string
	Value   string // what a Put or CAS writes; must be unique for its key
	Old     string // what a CAS asks for; empty means that there is no key
	Outcome Outcome
	Got     string // what a Get read; empty means that there is no key
	Swapped bool   // whether a CAS found Old

	// Call and Return are times since the history began. They are set by
	// [History.Begin] and [Pending.End].
	Call, Return time.Duration
}

// A History records operations of many clients at once. The zero History is
// ready to use; it must not be copied.
type History struct {
	once  sync.Once
	start time.Time
	mu    sync.Mutex
	ops   []Op
}

// A Pending is an operation that began and has not ended.
type Pending struct {
	history *History
	op      Op
}

// Begin notes that a client starts op, now. An operation that is begun and
// never ended is not in the history: end every one, with the outcome Unknown
// if nothing else is known.
func (h *History) Begin(op Op) *Pending {
	op.Call = h.now()
	return &Pending{history: h, op: op}
}

// End notes that the operation ended, now. The outcome, and what it returned,
// are set by the caller through f.
func (p *Pending) End(f func(op *Op)) {
	f(&p.op)
	p.op.Return = p.history.now()
	p.history.mu.Lock()
	defer p.history.mu.Unlock()
	p.history.ops = append(p.history.ops, p.op)
}

// Ops returns the operations that have ended, in the order of their ends.
func (h *History) Ops() []Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.ops)
}

func (h *History) now() time.Duration {
	h.once.Do(func() { h.start = time.Now() })
	return time.Since(h.start)
}
