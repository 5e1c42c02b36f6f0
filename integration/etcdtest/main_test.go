package etcdtest_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon bounds what should take milliseconds.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// calm is the timing of etcd's own defaults, for clusters that are to have no
// election because the machine is busy.
var calm = etcdtest.WithTick(100*time.Millisecond, time.Second)

// leader waits for the member that leads.
func leader(t *testing.T, c *etcdtest.Cluster) *etcdtest.Member {
	t.Helper()
	m, err := c.WaitLeader(soon(t))
	must(t, err)
	return m
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
