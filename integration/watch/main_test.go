package watch_test

import (
	"context"
	"flag"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// campaign makes the tests that search for rare events search for longer.
var campaign = flag.Bool("campaign", false, "run long campaigns under faults instead of short ones")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon bounds what should take milliseconds.
func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
