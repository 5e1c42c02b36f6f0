package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/integration/check"
)

// Contending is what came of clients that contend for a lock or for the
// leadership of an election.
type Contending struct {
	Turns      int            `json:"turns"`               // how often one of them had it
	Overlaps   int            `json:"overlaps"`            // how often two had it at once
	Failed     int            `json:"failed"`              // calls to take it or to give it back that returned an error
	LongestGap float64        `json:"longest_gap_seconds"` // during which nobody got it
	Errors     map[string]int `json:"errors"`              // what they said
}

// A seat is a client's session, with what it contends for.
type seat struct {
	done     <-chan struct{} // closed when the session is lost
	close    func() error
	lock     contender
	election contender
}

// A contender takes turns with others.
type contender interface {
	// take waits for a turn. What it returns holds in etcd as long as the
	// turn lasts.
	take(ctx context.Context, name string) (clientv3.Cmp, error)
	release(ctx context.Context) error
}

// contest lets one player for each client contend, each with a session of its
// own. Who has a turn writes that it enters and that it leaves, so that the
// history shows when two had it at once.
type contest struct {
	name string // and key of what they write in turn
	sit  func(ctx context.Context, cli *clientv3.Client, prefix string) (*seat, error)
	pick func(*seat) contender

	stage   *stage
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	turns  []time.Duration // when they began
	failed int
	errors map[string]int
	ended  time.Duration
}

// Times of a contest.
const (
	turnLasts  = 5 * time.Millisecond
	turnsApart = 20 * time.Millisecond // of one player
	turnWait   = 10 * time.Second      // to get a turn, or to give it back
)

func (c *contest) begin(ctx context.Context, st *stage) {
	c.stage = st
	ctx, c.cancel = context.WithCancel(ctx)
	for i, cli := range st.clients {
		c.running.Go(func() { c.play(ctx, cli, i) })
	}
}

func (c *contest) quiesce(context.Context) {
	c.cancel()
	c.running.Wait()
	if c.ended == 0 {
		c.ended = time.Since(c.stage.start)
	}
}

func (c *contest) settle(ctx context.Context, _ int64) { c.quiesce(ctx) }

func (c *contest) report(log *check.Log, _ []call, result *Side) {
	if result.Contests == nil {
		result.Contests = make(map[string]*Contending)
	}
	begun := c.stage.begun
	result.Contests[c.name] = &Contending{
		Turns:      len(c.turns),
		Overlaps:   overlaps(log, c.stage.keys+c.name),
		Failed:     c.failed,
		Errors:     c.errors,
		LongestGap: longestGap(c.turns, begun, c.ended).Seconds(),
	}
}

// play contends until ctx ends, with a new session whenever one is lost.
func (c *contest) play(ctx context.Context, cli *clientv3.Client, player int) {
	n := 0
	again := func() reprise.Retryer {
		return reprise.OnErrorFunc(reprise.Backoff{Initial: 10 * time.Millisecond, Max: time.Second}, func(error) bool { return true })
	}
	// It ends with ctx only, and that is no news.
	_ = reprise.Invoke(ctx, func(ctx context.Context, _ reprise.CallSettings) error {
		s, err := c.sit(ctx, cli, c.stage.contests+c.name)
		if err != nil {
			return err
		}
		for wait(ctx, turnsApart, s.done) && err == nil {
			n++
			err = c.turn(ctx, cli, c.pick(s), fmt.Sprintf("%d.%d", player, n))
		}
		return errors.Join(errSessionLost, s.close())
	}, reprise.WithRetry(again))
}

var errSessionLost = errors.New("the session is over")

// turn takes one turn. It returns an error if what was taken could not be given
// back, so that only the end of the session frees it.
func (c *contest) turn(ctx context.Context, cli *clientv3.Client, with contender, name string) error {
	takeCtx, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	guard, err := with.take(takeCtx, name)
	if err != nil {
		if ctx.Err() == nil {
			c.fail(err)
		}
		return nil
	}
	c.began()
	// A turn is not cut by the end of the contest.
	ctx, cancelTurn := context.WithTimeout(context.WithoutCancel(ctx), turnWait)
	defer cancelTurn()
	c.write(ctx, cli, guard, enters+name)
	wait(ctx, turnLasts, nil)
	c.write(ctx, cli, guard, leaves+name)
	if err := with.release(ctx); err != nil {
		c.fail(err)
		return err
	}
	return nil
}

// What players write at their turns.
const (
	enters = "enters "
	leaves = "leaves "
)

// write is guarded by the turn: it does nothing once the turn is over. Whether
// it succeeded is seen in the history.
func (c *contest) write(ctx context.Context, cli *clientv3.Client, guard clientv3.Cmp, what string) {
	_, _ = cli.Txn(ctx).If(guard).Then(clientv3.OpPut(c.stage.keys+c.name, what)).Commit()
}

func (c *contest) began() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turns = append(c.turns, time.Since(c.stage.start))
}

func (c *contest) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.errors == nil {
		c.errors = make(map[string]int)
	}
	c.errors[err.Error()]++
	c.failed++
}

// overlaps counts the turns that began before another one, that had begun
// before, was over. A turn of which the history has no end is over when the
// next one begins, since the writes are guarded.
func overlaps(log *check.Log, key string) int {
	var events []string
	for _, e := range log.Events {
		if string(e.Kv.Key) == key && e.Type == clientv3.EventTypePut {
			events = append(events, string(e.Kv.Value))
		}
	}
	n := 0
	for i, e := range events {
		name, ok := strings.CutPrefix(e, enters)
		if !ok {
			continue
		}
		for _, other := range events[:i] {
			former, ok := strings.CutPrefix(other, enters)
			if ok && former != name && slices.Contains(events[i:], leaves+former) {
				n++
			}
		}
	}
	return n
}
