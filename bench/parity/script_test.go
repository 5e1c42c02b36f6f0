package parity

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/googleapis/gax-go/v2"
	"github.com/reprise-go/reprise"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A script is one call: what its attempts return, under which policy, and what
// becomes of its context.
type script struct {
	errs   []error       // of the attempts in turn; the last holds for all that follow
	took   time.Duration // by each attempt, unless its context ends first
	policy policy
	end    end
	after  time.Duration // when the context ends
	grpc   int           // how many gRPC options the call has
}

type end int

const (
	never end = iota
	byDeadline
	byCancel
)

// A policy is one of four kinds of Retryer, or none.
type policy struct {
	kind       kind
	codes      []codes.Code
	initial    time.Duration
	max        time.Duration
	multiplier float64
	pauses     []time.Duration // of fixed; after the last it declines
}

type kind int

const (
	none     kind = iota // no WithRetry
	off                  // WithRetry(nil)
	nilMaker             // WithRetry of a function that returns nil
	onCodes              // OnCodes
	onErr                // OnErrorFunc with the same meaning
	fixed                // a Retryer of the user's own with known pauses
)

const kindCount = int(fixed) + 1

func (s script) String() string {
	return fmt.Sprintf("errs %v, took %v, policy %+v, end %d after %v, %d gRPC options",
		s.errs, s.took, s.policy, s.end, s.after, s.grpc)
}

// envelope is the bound of the nth pause, counted from 0, as gax-go documents it.
func (p policy) envelope(n int) time.Duration {
	initial, limit, multiplier := p.initial, p.max, p.multiplier
	if initial == 0 {
		initial = time.Second
	}
	if limit == 0 {
		limit = 30 * time.Second
	}
	if multiplier == 0 {
		multiplier = 2
	}
	v := initial
	for range n {
		v = min(time.Duration(float64(v)*multiplier), limit)
	}
	return v
}

// A trace is what happened.
type trace struct {
	starts  []time.Duration // of the attempts, from the start of the call
	end     time.Duration
	makers  int // how often a Retryer was made
	options int // gRPC options that the last attempt was given
	err     error
}

// pauses are the times between the end of an attempt and the start of the next.
func (tr trace) pauses(took time.Duration) []time.Duration {
	var out []time.Duration
	for i := 1; i < len(tr.starts); i++ {
		out = append(out, tr.starts[i]-tr.starts[i-1]-took)
	}
	return out
}

// code is the status code of an error, where a bare context error has its own.
func code(err error) codes.Code {
	switch {
	case err == nil:
		return codes.OK
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	}
	return status.Code(err)
}

// play runs a script through one of the libraries, inside a synctest bubble.
func play(s script, invoke func(ctx context.Context, s script, tr *trace, attempt attempt) error) trace {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	switch s.end {
	case byDeadline:
		var release context.CancelFunc
		ctx, release = context.WithTimeout(ctx, s.after)
		defer release()
	case byCancel:
		defer time.AfterFunc(s.after, cancel).Stop()
	}
	var tr trace
	start := time.Now()
	tr.err = invoke(ctx, s, &tr, func(ctx context.Context, options int) error {
		tr.starts = append(tr.starts, time.Since(start))
		tr.options = options
		if s.took > 0 {
			select {
			case <-ctx.Done():
				return status.FromContextError(ctx.Err()).Err()
			case <-time.After(s.took):
			}
		}
		return s.errs[min(len(tr.starts), len(s.errs))-1]
	})
	tr.end = time.Since(start)
	return tr
}

type attempt func(ctx context.Context, options int) error

func byGax(ctx context.Context, s script, tr *trace, try attempt) error {
	p := s.policy
	opts := []gax.CallOption{gax.WithGRPCOptions(make([]grpc.CallOption, s.grpc)...)}
	bo := gax.Backoff{Initial: p.initial, Max: p.max, Multiplier: p.multiplier}
	retry := func(r func() gax.Retryer) {
		opts = append(opts, gax.WithRetry(func() gax.Retryer { tr.makers++; return r() }))
	}
	switch p.kind {
	case none:
	case off:
		opts = append(opts, gax.WithRetry(nil))
	case nilMaker:
		retry(func() gax.Retryer { return nil })
	case onCodes:
		retry(func() gax.Retryer { return gax.OnCodes(p.codes, bo) })
	case onErr:
		retry(func() gax.Retryer { return gax.OnErrorFunc(bo, p.listed) })
	case fixed:
		retry(func() gax.Retryer { return &fixedRetryer{pauses: p.pauses} })
	}
	return gax.Invoke(ctx, func(ctx context.Context, cs gax.CallSettings) error {
		return try(ctx, len(cs.GRPC))
	}, opts...)
}

func byReprise(ctx context.Context, s script, tr *trace, try attempt) error {
	p := s.policy
	opts := []reprise.CallOption{reprise.WithGRPCOptions(make([]grpc.CallOption, s.grpc)...)}
	bo := reprise.Backoff{Initial: p.initial, Max: p.max, Multiplier: p.multiplier}
	retry := func(r func() reprise.Retryer) {
		opts = append(opts, reprise.WithRetry(func() reprise.Retryer { tr.makers++; return r() }))
	}
	switch p.kind {
	case none:
	case off:
		opts = append(opts, reprise.WithRetry(nil))
	case nilMaker:
		retry(func() reprise.Retryer { return nil })
	case onCodes:
		retry(func() reprise.Retryer { return reprise.OnCodes(p.codes, bo) })
	case onErr:
		retry(func() reprise.Retryer { return reprise.OnErrorFunc(bo, p.listed) })
	case fixed:
		retry(func() reprise.Retryer { return &fixedRetryer{pauses: p.pauses} })
	}
	return reprise.Invoke(ctx, func(ctx context.Context, cs reprise.CallSettings) error {
		return try(ctx, len(cs.GRPC))
	}, opts...)
}

// listed reports whether err carries one of the codes of p.
func (p policy) listed(err error) bool {
	st, ok := status.FromError(err)
	return ok && slices.Contains(p.codes, st.Code())
}

// fixedRetryer is a Retryer to both libraries.
type fixedRetryer struct {
	pauses []time.Duration
	asked  int
}

func (r *fixedRetryer) Retry(error) (time.Duration, bool) {
	if r.asked++; r.asked > len(r.pauses) {
		return 0, false
	}
	return r.pauses[r.asked-1], true
}

// errPlain carries no status.
var errPlain = errors.New("plain")

// random makes a script. Those whose context ends have pauses that are known
// and never end when it does: both libraries promise the same then, down to the
// number of attempts.
func random(rng *rand.Rand) script {
	s := script{grpc: rng.IntN(3), policy: policy{kind: kind(rng.IntN(kindCount))}}
	p := &s.policy
	for range rng.IntN(6) {
		// Never the code that ends a script, so that every script ends.
		p.codes = append(p.codes, codes.Code(rng.IntN(int(codes.DataLoss))))
	}
	for range rng.IntN(9) {
		c := codes.Code(1 + rng.IntN(16))
		if len(p.codes) > 0 && rng.IntN(4) > 0 {
			c = max(p.codes[rng.IntN(len(p.codes))], codes.Canceled)
		}
		s.errs = append(s.errs, randomError(rng, c))
	}
	s.errs = append(s.errs, []error{nil, status.Error(codes.DataLoss, "last"), errPlain}[rng.IntN(3)])
	if rng.IntN(2) == 0 {
		s.took = time.Duration(1+rng.IntN(2000)) * time.Millisecond
	}
	if rng.IntN(4) > 0 {
		p.initial = time.Duration(1 + rng.Int64N(int64(5*time.Second)))
		p.max = p.initial + time.Duration(rng.Int64N(int64(time.Minute)))
		p.multiplier = []float64{0, 1, 1.3, 2, 10}[rng.IntN(5)]
	}
	if p.kind != fixed {
		return s
	}
	for range rng.IntN(8) {
		p.pauses = append(p.pauses, time.Duration(1+rng.IntN(3000))*time.Millisecond)
	}
	s.end = end(rng.IntN(3))
	// Half a millisecond beside every attempt and pause.
	s.after = time.Duration(rng.IntN(12_000))*time.Millisecond + time.Millisecond/2
	return s
}

func randomError(rng *rand.Rand, c codes.Code) error {
	switch rng.IntN(12) {
	case 0:
		return errPlain
	case 1:
		return fmt.Errorf("wrapped: %w", status.Error(c, "inside"))
	case 2:
		return carrier{c}
	}
	return status.Error(c, "scripted")
}

// carrier is an error type of the user's own that has a status.
type carrier struct{ code codes.Code }

func (c carrier) Error() string              { return "carrier of " + c.code.String() }
func (c carrier) GRPCStatus() *status.Status { return status.New(c.code, c.Error()) }
