package services_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/reprise-go/reprise/services"
)

func appendErrors(eb *services.ErrorBuffer, n int) {
	for i := range n {
		eb.Append(fmt.Errorf("e%d", i))
	}
}

func TestErrorBufferKeepsTheNewest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		use  func(*services.ErrorBuffer)
		want string
	}{
		"empty":                  {func(*services.ErrorBuffer) {}, "<nil>"},
		"in order":               {func(eb *services.ErrorBuffer) { appendErrors(eb, 3) }, "e0 e1 e2"},
		"at the cap":             {func(eb *services.ErrorBuffer) { eb.SetCap(3); appendErrors(eb, 3) }, "e0 e1 e2"},
		"beyond the cap":         {func(eb *services.ErrorBuffer) { eb.SetCap(2); appendErrors(eb, 9) }, "e7 e8"},
		"a cap set late":         {func(eb *services.ErrorBuffer) { appendErrors(eb, 9); eb.SetCap(2) }, "e7 e8"},
		"a larger cap":           {func(eb *services.ErrorBuffer) { appendErrors(eb, 2); eb.SetCap(5) }, "e0 e1"},
		"zero empties":           {func(eb *services.ErrorBuffer) { appendErrors(eb, 2); eb.SetCap(0) }, "<nil>"},
		"zero is no limit":       {func(eb *services.ErrorBuffer) { eb.SetCap(1); eb.SetCap(0); appendErrors(eb, 3) }, "e0 e1 e2"},
		"negative is no limit":   {func(eb *services.ErrorBuffer) { eb.SetCap(-1); appendErrors(eb, 3) }, "e0 e1 e2"},
		"negative empties":       {func(eb *services.ErrorBuffer) { appendErrors(eb, 3); eb.SetCap(-1) }, "<nil>"},
		"nil takes a place":      {func(eb *services.ErrorBuffer) { eb.SetCap(2); appendErrors(eb, 2); eb.Append(nil) }, "e1"},
		"only nil":               {func(eb *services.ErrorBuffer) { eb.Append(nil) }, "<nil>"},
		"a flush empties":        {func(eb *services.ErrorBuffer) { appendErrors(eb, 2); _ = eb.Flush() }, "<nil>"},
		"a flush keeps the cap":  {func(eb *services.ErrorBuffer) { eb.SetCap(1); _ = eb.Flush(); appendErrors(eb, 2) }, "e1"},
		"the default is no cap":  {func(eb *services.ErrorBuffer) { appendErrors(eb, 60) }, numbered(0, 60)},
		"a started service's 50": {func(eb *services.ErrorBuffer) { appendErrors(eb, 60) }, numbered(10, 60)},
		"set before the start":   {func(eb *services.ErrorBuffer) { appendErrors(eb, 60) }, numbered(57, 60)},
		"unlimited on purpose":   {func(eb *services.ErrorBuffer) { appendErrors(eb, 60) }, numbered(0, 60)},
		"trimmed by the start":   {func(*services.ErrorBuffer) {}, numbered(10, 60)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m services.StateMachine
			started := true
			switch name {
			case "a started service's 50":
			case "set before the start":
				m.SvcErrBuffer.SetCap(3)
			case "unlimited on purpose":
				m.SvcErrBuffer.SetCap(0)
			case "trimmed by the start":
				appendErrors(&m.SvcErrBuffer, 60)
			default:
				started = false
			}
			if started {
				if err := m.StartOnce("svc", func() error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
			c.use(&m.SvcErrBuffer)
			got := strings.ReplaceAll(fmt.Sprint(m.SvcErrBuffer.Flush()), "\n", " ")
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func numbered(from, to int) string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("e%d", i))
	}
	return strings.Join(all, " ")
}

// Two readers of Healthy were enough for a data race.
func TestErrorBufferIsSafeForConcurrentUseAndLosesNothing(t *testing.T) {
	t.Parallel()
	const each, writers = 500, 4
	var (
		eb   services.ErrorBuffer
		wg   sync.WaitGroup
		seen atomic.Int64
	)
	count := func(err error) {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			seen.Add(int64(len(joined.Unwrap())))
		}
	}
	for range writers {
		wg.Go(func() {
			for range each {
				eb.Append(errors.New("e"))
			}
		})
		wg.Go(func() {
			for range each {
				count(eb.Flush())
			}
		})
	}
	wg.Wait()
	count(eb.Flush())
	if seen.Load() != each*writers {
		t.Errorf("%d errors came out of %d", seen.Load(), each*writers)
	}
}
