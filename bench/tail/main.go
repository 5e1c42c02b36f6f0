// Command tail shows what hedging does to the tail of latencies: it calls a
// real gRPC server over the loopback interface, most of whose answers take 10
// ms and, independently, one in a hundred 500 ms, with and without hedging.
//
//	go run ./tail
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/reprise-go/reprise"
)

func main() {
	calls := flag.Int("calls", 20_000, "how many calls each side makes")
	workers := flag.Int("workers", 100, "how many of them at a time")
	delay := flag.Duration("delay", 25*time.Millisecond, "the hedging delay")
	seed := flag.Uint64("seed", 1, "of the server's slowness")
	flag.Parse()
	if *calls < 1 || *workers < 1 {
		fmt.Fprintln(os.Stderr, "tail: -calls and -workers must be positive")
		os.Exit(2)
	}
	if err := run(os.Stdout, *calls, *workers, *delay, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "tail:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, calls, workers int, delay time.Duration, seed uint64) error {
	lis, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // on loopback, at once
	if err != nil {
		return err
	}
	target := "passthrough:///" + lis.Addr().String()
	var sides [2]side
	sides[0].name, sides[1].name = "one attempt", fmt.Sprintf("hedged after %v", delay)
	err = withServer(lis, target, seed, nil, func(s *server, client testpb.TestServiceClient) error {
		plain := reprise.NewUnary(client.EmptyCall)
		hedged := reprise.NewUnary(client.EmptyCall, hedging(delay))
		for i, call := range []*reprise.Unary[testpb.Empty, testpb.Empty]{plain, hedged} {
			s.requests.Store(0)
			if sides[i].times, err = measure(call, calls, workers); err != nil {
				return err
			}
			sides[i].requests = s.requests.Load()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return report(w, sides[0], sides[1])
}

// hedging sends a second request after delay.
func hedging(delay time.Duration) reprise.CallOption {
	return reprise.WithHedge(reprise.HedgePolicy{MaxAttempts: 2, Delay: delay, NonFatalCodes: []codes.Code{codes.Unavailable}})
}

// withServer runs f against a server at lis, and ends it.
func withServer(
	lis net.Listener, target string, seed uint64, dial []grpc.DialOption,
	f func(s *server, client testpb.TestServiceClient) error,
) error {
	s, srv := newServer(seed), grpc.NewServer()
	testpb.RegisterTestServiceServer(srv, s)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	conn, err := grpc.NewClient(target, append(dial,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())...)
	if err == nil {
		err = f(s, testpb.NewTestServiceClient(conn))
		err = errors.Join(err, conn.Close())
	}
	srv.Stop()
	return errors.Join(err, <-served)
}

// side is what was measured of one way to call.
type side struct {
	name     string
	times    []time.Duration // sorted
	requests int64           // that reached the server
}

// measure makes the calls and returns how long they took, sorted.
func measure(call *reprise.Unary[testpb.Empty, testpb.Empty], calls, workers int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	times := make([]time.Duration, calls)
	errs := make([]error, workers)
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(calls); i = next.Add(1) - 1 {
				start := time.Now()
				if _, errs[w] = call.Call(ctx, &testpb.Empty{}); errs[w] != nil {
					return
				}
				times[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	slices.Sort(times)
	return times, errors.Join(errs...)
}

// quantile returns the time within which the share q of the calls ended.
func (s *side) quantile(q float64) time.Duration {
	return s.times[min(int(q*float64(len(s.times))), len(s.times)-1)]
}

// more returns how many more requests than calls there were, as a share.
func (s *side) more() float64 { return float64(s.requests)/float64(len(s.times)) - 1 }

func report(w io.Writer, plain, hedged side) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "%d calls\tp50\tp99\tp99.9\tmax\tmore requests\n", len(plain.times))
	for _, s := range []side{plain, hedged} {
		fmt.Fprintf(tw, "%s\t%v\t%v\t%v\t%v\t%.2f%%\n", s.name, round(s.quantile(0.5)), round(s.quantile(0.99)),
			round(s.quantile(0.999)), round(s.times[len(s.times)-1]), 100*s.more())
	}
	fmt.Fprintf(tw, "p99.9 is %.1f times lower\n", float64(plain.quantile(0.999))/float64(hedged.quantile(0.999)))
	return tw.Flush()
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
