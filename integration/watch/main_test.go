package watch_test

import (
	"context"
	"flag"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

// campaign makes the tests that search for rare events search for longer.
var campaign = flag.Bool("campaign", false, "run long campaigns under faults instead of short ones")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// calm is the timing of etcd's own defaults, for clusters that are to have no
// election because the machine is busy.
var calm = etcdtest.WithTick(100*time.Millisecond, time.Second)

// soon bounds what should take milliseconds.
func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
