package integration_test

import (
	"context"
	"flag"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// campaign makes the tests that search for rare events search for longer.
var campaign = flag.Bool("campaign", false, "run long campaigns: 20 s under faults instead of 3 s")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// campaignTime is how long a search under faults lasts.
func campaignTime() time.Duration {
	if *campaign {
		return 20 * time.Second
	}
	return 3 * time.Second
}

// soon bounds what should take milliseconds.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
