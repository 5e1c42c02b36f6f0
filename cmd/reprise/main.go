// Command reprise shows what calls to etcd are worth while the cluster breaks.
//
//	reprise drill
//
// runs a workload through Reprise and through plain clientv3 under the same
// faults, and prints what came of it. See reprise drill --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit statuses.
const (
	exitOK          = 0
	exitBroken      = 1 // the command ran, and found a promise broken
	exitFailed      = 2 // the command could not run
	exitInterrupted = 130
)

// errBroken ends a command that has said already what is broken.
var errBroken = errors.New("a promise was broken")

// errInterrupted is why a command's context ends on a signal.
var errInterrupted = errors.New("interrupted")

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Stop(signals) // a second one ends the process at once
		cancel(errInterrupted)
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run executes a command line and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "reprise",
		Short:         "Calls that may fail, tried out",
		Version:       version(debug.ReadBuildInfo()),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newDrill())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errBroken):
		return exitBroken
	case errors.Is(err, errInterrupted):
		_, _ = fmt.Fprintln(stderr, "reprise: interrupted")
		return exitInterrupted
	default:
		_, _ = fmt.Fprintln(stderr, "reprise:", err)
		return exitFailed
	}
}
