// Command bench measures Reprise beside the libraries that do a part of the
// same work, in one process, in interleaved rounds, and prints one table:
//
//	cd bench && go run .
//
// A row says what one call costs: the median over the rounds, allocations, and
// how many times as long it took as the row of Reprise that heads the group,
// with the 95% interval of the median. Below the table stands each figure that
// the project promises and whether this run met it; with -check the exit status
// is 1 if one was not.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var (
		rounds = flag.Int("rounds", 25, "interleaved rounds of each group, at least 6")
		slice  = flag.Duration("slice", 4*time.Millisecond, "time that a contender has the processor before the next has it")
		only   = flag.String("run", "", "measure the groups whose name matches this `regexp`")
		check  = flag.Bool("check", false, "exit with status 1 if a promised figure is not met")
	)
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if *rounds < minRounds {
		return fmt.Errorf("%d rounds are too few for a 95%% interval of the median, which takes %d", *rounds, minRounds)
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	groups, closeAll, err := allGroups()
	if err != nil {
		return err
	}
	defer closeAll()

	fmt.Printf("%s %s/%s, GOMAXPROCS %d, %d rounds\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), *rounds)
	missed := 0
	for _, g := range groups {
		if !match.MatchString(g.name) {
			continue
		}
		r, err := measure(g, *rounds, *slice)
		if err != nil {
			return err
		}
		if err := r.print(os.Stdout); err != nil {
			return err
		}
		for _, v := range r.verdicts() {
			fmt.Println("  " + v.String())
			if !v.met {
				missed++
			}
		}
	}
	if *check && missed > 0 {
		return fmt.Errorf("%d promised figures were not met", missed)
	}
	return nil
}
