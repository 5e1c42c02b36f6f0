package concurrency

import (
	"testing"
	"testing/synctest"
)

func TestANameBelongsToOneClaimAtATimeAndIsUsedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionOn(t.Context(), nil, sessionOptions{})
		used := make(map[string]*claim)
		enter := func() *claim {
			t.Helper()
			c := s.claim(s.term, "lock/", "", "")
			if used[c.key] != nil {
				t.Errorf("two claims have the name %s", c.key)
			}
			used[c.key] = c
			return c
		}
		leave := func(c *claim) {
			delete(used, c.key)
			c.vacate()
		}
		stays, goes := enter(), enter()
		for range 3 {
			leave(goes)
			name := goes.key
			if goes = enter(); goes.key != name {
				t.Errorf("%s was free, and another has the name %s", name, goes.key)
			}
			leave(enter())
		}
		if len(s.queues) != 1 {
			t.Errorf("%d queues for one lock", len(s.queues))
		}
		leave(stays)
		leave(goes)
		if len(s.queues) != 0 {
			t.Error("a queue is kept that nobody stands in")
		}
	})
}
