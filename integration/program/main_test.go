// Package program_test runs a small program of services on etcd: a cache fed by
// a watch, a presence held by a session, a task that one instance runs at a
// time, and a web server for its health. It shows how each becomes a service,
// and what happens to the whole when the cluster goes and comes back.
package program_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain is also the program that the tests start as processes of their own.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Arg(0) != "program" {
		goleak.VerifyTestMain(m)
		return
	}
	if err := program(flag.Arg(1), flag.Arg(2), flag.Args()[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
