package main

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/reprise-go/reprise/cmd/reprise/internal/drill"
)

// newProgress makes what shows how a drill goes on: bars on a terminal, lines
// elsewhere. The returned function ends it.
func newProgress(w io.Writer) (drill.Observer, func()) {
	if isTerminal(w) {
		b := newBars(w)
		return b, b.done
	}
	return &lines{w: w}, func() {}
}

// lines is progress for a log file.
type lines struct {
	w  io.Writer
	mu sync.Mutex
}

func (l *lines) Begin(p drill.Phase) {
	takes := ""
	if p.Takes > 0 {
		takes = fmt.Sprintf(" (%v)", p.Takes.Round(time.Millisecond))
	}
	l.print("%s: %s%s", p.Side, p.Name, takes)
}

func (l *lines) Struck(side string, f drill.Fault) { l.print("%s: fault: %s", side, f) }

func (l *lines) End(p drill.Phase) {
	if c := p.Count(); c.Offered > 0 {
		l.print("%s: %s: done, %s", p.Side, p.Name, counted(c))
	}
}

func (l *lines) print(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = fmt.Fprintf(l.w, format+"\n", args...) // nobody reads the progress of a drill whose output is gone
}

func counted(c drill.Count) string {
	return fmt.Sprintf("%d calls, %d acknowledged, %d not, %d under way",
		c.Offered, c.Acknowledged, c.Failed, c.UnderWay())
}

// bars is progress for a terminal: a bar for each phase, one below the other.
type bars struct {
	progress *mpb.Progress
	current  *bar
}

func newBars(w io.Writer) *bars {
	return &bars{progress: mpb.New(mpb.WithOutput(w), mpb.WithAutoRefresh(), mpb.WithRefreshRate(100*time.Millisecond))}
}

func (b *bars) Begin(p drill.Phase) {
	b.current = newBar(b.progress, p)
}

func (b *bars) Struck(_ string, f drill.Fault) {
	b.current.fault.Store(&f)
}

func (b *bars) End(drill.Phase) {
	b.current.end(true)
	b.current = nil
}

// done ends the display, and a bar that was interrupted with it.
func (b *bars) done() {
	if b.current != nil {
		b.current.end(false)
	}
	b.progress.Wait()
}

// bar shows one phase. Its last state stays on the screen.
type bar struct {
	phase drill.Phase
	total time.Duration
	mpb   *mpb.Bar
	fault atomic.Pointer[drill.Fault] // the last one
	final atomic.Pointer[drill.Count] // set when the phase is over
	stop  chan struct{}
	clock sync.WaitGroup
}

func newBar(p *mpb.Progress, phase drill.Phase) *bar {
	b := &bar{phase: phase, total: max(phase.Takes, time.Millisecond), stop: make(chan struct{})}
	b.mpb = p.AddBar(int64(b.total), mpb.BarWidth(14),
		mpb.PrependDecorators(
			decor.Name(phase.Side, decor.WC{W: 9, C: decor.DindentRight}),
			decor.Name(phase.Name, decor.WC{W: 18, C: decor.DindentRight}),
		),
		mpb.AppendDecorators(decor.Any(b.status)),
	)
	b.clock.Go(b.follow)
	return b
}

// follow moves the bar with time, and leaves the last step to the end of the
// phase.
func (b *bar) follow() {
	start := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			b.mpb.SetCurrent(int64(min(time.Since(start), b.total*99/100)))
		case <-b.stop:
			return
		}
	}
}

func (b *bar) status(decor.Statistics) string {
	c := b.final.Load()
	if c == nil {
		now := b.phase.Count()
		c = &now
	}
	if c.Offered == 0 {
		return ""
	}
	s := fmt.Sprintf(" %d ok, %d not", c.Acknowledged, c.Failed)
	if f := b.fault.Load(); f != nil && b.final.Load() == nil {
		s += "; " + string(*f)
	}
	return s
}

// end freezes the bar, full if the phase is over.
func (b *bar) end(over bool) {
	close(b.stop)
	b.clock.Wait()
	c := b.phase.Count()
	b.final.Store(&c)
	if over {
		b.mpb.SetCurrent(int64(b.total))
	} else {
		b.mpb.Abort(false)
	}
}
