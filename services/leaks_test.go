package services_test

import (
	"testing"

	"go.uber.org/goleak"
)

// leakFree fails the test if it leaves a goroutine behind. Tests that call it
// are not parallel, so that a leak has one possible author; a test in a
// synctest bubble needs no such check, as the bubble does not end before its
// goroutines.
func leakFree(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}
