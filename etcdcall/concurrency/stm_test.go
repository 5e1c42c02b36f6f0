package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/concurrency"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// compared is what a request compares, sorted.
func compared(r request) []string {
	var all []string
	for _, cmp := range r.cmps {
		sign := map[pb.Compare_CompareResult]string{pb.Compare_EQUAL: "=", pb.Compare_LESS: "<"}[cmp.Result]
		all = append(all, string(cmp.Key)+sign+strconv.FormatInt(cmp.GetModRevision(), 10))
	}
	slices.Sort(all)
	return all
}

func named(ops []clientv3.Op) []string {
	var all []string
	for _, op := range ops {
		all = append(all, string(op.KeyBytes()))
	}
	slices.Sort(all)
	return all
}

func TestACommitComparesEachKeyOnceAndNoMoreThanItsLevelAsks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		level concurrency.Isolation
		want  []string
	}{
		{concurrency.SerializableSnapshot, []string{"a=2", "b=0", "c<3", "d=2"}},
		{concurrency.Serializable, []string{"a=2", "b=0", "d=2"}},
		{concurrency.RepeatableReads, []string{"a=2", "b=0", "d=2"}},
		{concurrency.ReadCommitted, nil},
	} {
		s := newFakeStore(0)
		s.set("a", "1", "d", "1", "unread", "1")
		cli := s.client(t.Context())
		_, err := concurrency.NewSTM(cli, func(s concurrency.STM) error {
			s.Get("a", "a")
			s.Get("a", "b")
			s.Rev("d")
			s.Get("d")
			s.Put("a", "2")
			s.Put("a", "3")
			s.Del("c")
			s.Put("c", "1")
			s.Get("c")
			return nil
		}, concurrency.WithIsolation(test.level), concurrency.WithPrefetch("a", "b", "a", "unread"))
		if err != nil {
			t.Fatal(err)
		}
		asked := s.requests()
		commit := asked[len(asked)-1]
		if got := compared(commit); !slices.Equal(got, test.want) {
			t.Errorf("level %d compared %v, want %v", test.level, got, test.want)
		}
		if got := named(commit.then); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("level %d wrote %v", test.level, got)
		}
		if got := named(commit.els); test.want != nil && !slices.Equal(got, []string{"a", "b", "d"}) {
			t.Errorf("level %d would read %v again", test.level, got)
		}
	}
}

// rival writes key x before each of the first n commits.
func rival(s *fakeStore, n int) {
	s.before = func(_ int, r request) {
		if r.writes() && n > 0 {
			n--
			s.set("x", strconv.Itoa(n))
		}
	}
}

// attempts returns the times at which commits were answered, since start.
func attempts(asked []request, start time.Time) (at []time.Duration) {
	for _, r := range asked {
		if r.writes() {
			at = append(at, r.at.Sub(start))
		}
	}
	return at
}

func addOne(s concurrency.STM) error {
	n, _ := strconv.Atoi(s.Get("x"))
	s.Put("x", strconv.Itoa(n+1))
	return nil
}

func TestPausesAfterConflictsAreThoseThatWereAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore(0)
		rival(s, 3)
		start := time.Now()
		_, err := concurrency.NewSTM(s.client(t.Context()), addOne, concurrency.WithConflictBackoff(
			reprise.Backoff{Initial: time.Second, Max: 2 * time.Second, Jitter: reprise.JitterNone}))
		if err != nil {
			t.Fatal(err)
		}
		if at := attempts(s.requests(), start); !slices.Equal(at, []time.Duration{0, time.Second, 3 * time.Second, 5 * time.Second}) {
			t.Errorf("commits at %v", at)
		}
	})
}

// pauses returns how long nothing was asked after each conflict.
func pauses(asked []request, latency time.Duration) (pauses []time.Duration) {
	var lost time.Time // when the last conflict was heard of
	for _, r := range asked {
		if sent := r.at.Add(-latency / 2); !lost.IsZero() {
			pauses = append(pauses, sent.Sub(lost))
			lost = time.Time{}
		}
		if r.writes() && !r.succeeding {
			lost = r.at.Add(latency / 2)
		}
	}
	return pauses
}

func TestPausesFollowWhatACommitTakes(t *testing.T) {
	t.Parallel()
	for latency, unit := range map[time.Duration]time.Duration{
		time.Millisecond:      time.Millisecond,
		15 * time.Millisecond: 15 * time.Millisecond,
		time.Second:           20 * time.Millisecond,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeStore(latency)
			rival(s, 100)
			if _, err := concurrency.NewSTM(s.client(t.Context()), addOne); err != nil {
				t.Fatal(err)
			}
			most := float64(8 * unit)
			for i, pause := range pauses(s.requests(), latency) {
				if pause == 0 {
					continue
				}
				if got := float64(pause); got < most/2 || got > most {
					t.Errorf("after conflict %d it pauses %v, want %v to %v", i+1, pause, time.Duration(most/2), time.Duration(most))
				}
				most = min(1.25*most, float64(64*unit))
			}
		})
	}
}

func TestWhoLosesOftenSeldomTriesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const runs, conflicts = 500, 20
		var atOnce [conflicts]float64 // of all runs, after each conflict
		for range runs {
			s := newFakeStore(time.Millisecond)
			rival(s, conflicts)
			if _, err := concurrency.NewSTM(s.client(t.Context()), addOne); err != nil {
				t.Fatal(err)
			}
			for i, pause := range pauses(s.requests(), time.Millisecond) {
				if pause == 0 {
					atOnce[i] += 1. / runs
				}
			}
		}
		// The shares that are drawn stay within eight standard deviations.
		for i, want := range map[int]float64{0: 1, 1: 1, 2: 2. / 3, 3: 1. / 2, 7: 1. / 4, 19: 1. / 10} {
			if got := atOnce[i]; math.Abs(got-want) > 8*math.Sqrt(want*(1-want)/runs)+1e-9 {
				t.Errorf("after conflict %d, %.2f try at once, want about %.2f", i+1, got, want)
			}
		}
	})
}

func TestAConflictEndsWithItsContext(t *testing.T) {
	t.Parallel()
	slow := concurrency.WithConflictBackoff(reprise.Backoff{Initial: time.Minute, Max: time.Minute, Jitter: reprise.JitterNone})
	for name, test := range map[string]struct {
		end  func(context.Context) (context.Context, context.CancelFunc)
		want time.Duration
	}{
		"cancelled in a pause": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, time.Second},
		"a deadline within the pause": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 10*time.Second)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeStore(0)
				rival(s, 100)
				start := time.Now()
				ctx, cancel := test.end(t.Context())
				defer cancel()
				_, err := concurrency.NewSTM(s.client(t.Context()), addOne, slow, concurrency.WithAbortContext(ctx))
				if !errors.Is(err, concurrency.ErrConflict) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); took != test.want {
					t.Errorf("it took %v, want %v", took, test.want)
				}
				if got := s.get("x"); got != "99" {
					t.Errorf("x is %s, not what the rival wrote", got)
				}
			})
		})
	}
}

func TestAnErrorOfTheFunctionIsNoConflict(t *testing.T) {
	t.Parallel()
	for _, mine := range []error{concurrency.ErrConflict, fmt.Errorf("in another: %w", concurrency.ErrConflict)} {
		s := newFakeStore(0)
		runs := 0
		_, err := concurrency.NewSTM(s.client(t.Context()), func(s concurrency.STM) error {
			runs++
			s.Put("x", "1")
			return mine
		}, concurrency.WithCallOptions(reprise.WithMaxAttempts(3)))
		if err != mine || runs != 1 || len(s.requests()) > 0 { //nolint:errorlint // the very error is promised
			t.Errorf("%v after %d runs", err, runs)
		}
	}
}

func TestAFunctionSeesWhatItHasWritten(t *testing.T) {
	t.Parallel()
	s := newFakeStore(0)
	s.set("x", "1", "y", "1")
	_, err := concurrency.NewSTM(s.client(t.Context()), func(s concurrency.STM) error {
		var seen []string
		look := func() { seen = append(seen, s.Get("x")) }
		look()
		s.Put("x", "2")
		look()
		s.Del("x")
		look()
		s.Put("x", "3")
		look()
		s.Del("y")
		seen = append(seen, s.Get("y"), s.Get("y", "x"))
		if !slices.Equal(seen, []string{"1", "2", "", "3", "", ""}) {
			t.Errorf("it saw %q", seen)
		}
		if rev := s.Rev("x"); rev != 2 {
			t.Errorf("what it read is of revision %d", rev)
		}
		return nil
	})
	if err != nil || s.get("x") != "3" || s.get("y") != "" {
		t.Errorf("x=%q y=%q, %v", s.get("x"), s.get("y"), err)
	}
}

func TestAnAttemptReadsAtOnceWhatTheOneBeforeHasRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		level concurrency.Isolation
		pause time.Duration
		want  []string // after the first commit
	}{
		"after a long pause":         {concurrency.Serializable, time.Second, []string{"read x y z", "commit"}},
		"after a short one":          {concurrency.Serializable, time.Nanosecond, []string{"commit"}},
		"repeatable, after a pause":  {concurrency.RepeatableReads, time.Second, []string{"read x y z", "commit"}},
		"repeatable, after no pause": {concurrency.RepeatableReads, time.Nanosecond, []string{"commit"}},
		"snapshot, after a pause":    {concurrency.SerializableSnapshot, time.Second, []string{"read x y z", "commit"}},
		"snapshot, after no pause":   {concurrency.SerializableSnapshot, time.Nanosecond, []string{"commit"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeStore(10 * time.Millisecond)
				rival(s, 1)
				_, err := concurrency.NewSTM(s.client(t.Context()), func(s concurrency.STM) error {
					s.Get("y")
					s.Get("z")
					return addOne(s)
				}, concurrency.WithIsolation(test.level), concurrency.WithConflictBackoff(reprise.Backoff{Initial: test.pause, Jitter: reprise.JitterNone}))
				if err != nil {
					t.Fatal(err)
				}
				if got := told(s.requests()); !slices.Equal(got, append([]string{"read y", "read z", "read x", "commit"}, test.want...)) {
					t.Errorf("it asked: %q", got)
				}
				if got := s.get("x"); got != "1" {
					t.Errorf("x is %s", got)
				}
			})
		})
	}
}

// told tells requests in words.
func told(asked []request) (words []string) {
	for _, r := range asked {
		word := "commit"
		if !r.writes() {
			word = "read"
			if len(r.cmps) > 0 {
				word = "confirm"
			}
			for _, key := range named(r.then) {
				word += " " + key
			}
		}
		words = append(words, word)
	}
	return words
}

func TestTheFirstReadIsLinearizableAndTheOthersAreOfItsRevision(t *testing.T) {
	t.Parallel()
	for level := concurrency.SerializableSnapshot; level <= concurrency.ReadCommitted; level++ {
		s := newFakeStore(0)
		s.set("x", "1")
		resp, err := concurrency.NewSTM(s.client(t.Context()), func(view concurrency.STM) error {
			view.Get("x")
			s.set("z", "1")
			view.Get("y")
			return nil
		}, concurrency.WithIsolation(level))
		if err != nil {
			t.Fatal(err)
		}
		asked := s.requests()
		first, second := asked[0].then[0], asked[1].then[0]
		if first.IsSerializable() || first.Rev() != 0 {
			t.Errorf("level %d began at revision %d, serializable %v", level, first.Rev(), first.IsSerializable())
		}
		pinned := level == concurrency.SerializableSnapshot || level == concurrency.Serializable
		if second.IsSerializable() != pinned || pinned != (second.Rev() == 2) {
			t.Errorf("level %d went on at revision %d, serializable %v", level, second.Rev(), second.IsSerializable())
		}
		if pinned && resp.Header.Revision != 2 {
			t.Errorf("level %d names revision %d", level, resp.Header.Revision)
		}
	}
}

func TestAServerThatIsBehindIsNotAskedTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore(time.Millisecond)
		s.set("x", "1", "y", "1")
		s.lagging = true
		start := time.Now()
		_, err := concurrency.NewSTM(s.client(t.Context()), func(view concurrency.STM) error {
			view.Get("x")
			s.set("x", "2", "y", "2")
			if y := view.Get("y"); y != "1" {
				t.Errorf("y was %s", y)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		asked := s.requests()
		if last := asked[len(asked)-1].then[0]; len(asked) != 2 || last.IsSerializable() || last.Rev() != 2 {
			t.Errorf("it asked: %q", told(asked))
		}
		if took := time.Since(start); took != 2500*time.Microsecond {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAReaderOfSeveralMomentsCommitsOnlyIfTheyWereOne(t *testing.T) {
	t.Parallel()
	for moves, want := range [][]string{
		{"read x", "read y"},
		{"read x", "read y", "confirm", "read x y"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeStore(time.Millisecond)
			s.set("x", "0", "y", "0")
			moved, sum := 0, 0
			_, err := concurrency.NewSTM(s.client(t.Context()), func(view concurrency.STM) error {
				x, _ := strconv.Atoi(view.Get("x"))
				if moved < moves {
					moved++
					s.set("x", "-1", "y", "1")
				}
				y, _ := strconv.Atoi(view.Get("y"))
				sum = x + y
				return nil
			}, concurrency.WithIsolation(concurrency.RepeatableReads),
				concurrency.WithConflictBackoff(reprise.Backoff{Initial: time.Second, Jitter: reprise.JitterNone}))
			if err != nil || sum != 0 {
				t.Errorf("after %d moves the sum was %d, %v", moves, sum, err)
			}
			if got := told(s.requests()); !slices.Equal(got, want) {
				t.Errorf("it asked: %q, want %q", got, want)
			}
		})
	}
}

// lastContext keeps the context of the last request.
type lastContext struct {
	*fakeStore
	ctx context.Context //nolint:containedctx // to be looked at
}

func (c *lastContext) Txn(ctx context.Context) clientv3.Txn {
	c.ctx = ctx
	return c.fakeStore.Txn(ctx)
}

func TestNothingWaitsForTheRequestsOfATransactionThatIsOver(t *testing.T) {
	t.Parallel()
	s := &lastContext{fakeStore: newFakeStore(0)}
	cli := s.client(context.Background())
	cli.KV = s
	for name, apply := range map[string]func(concurrency.STM) error{
		"returned": func(s concurrency.STM) error { s.Get("a"); return nil },
		"failed":   func(s concurrency.STM) error { s.Get("a"); return errors.ErrUnsupported },
	} {
		_, _ = concurrency.NewSTM(cli, apply, concurrency.WithAbortContext(context.Background()))
		if s.ctx.Err() == nil {
			t.Errorf("%s: what ends a request that takes too long is left", name)
		}
	}
}
