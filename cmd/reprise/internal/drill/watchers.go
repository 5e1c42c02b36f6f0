package drill

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/integration/check"
)

// Watching is what watchers of all keys were given, together.
type Watching struct {
	Events     int     `json:"events"`
	Violations int     `json:"guarantees_broken"`  // of etcd's guarantees to watchers
	Ended      int     `json:"ended"`              // how often a watch ended that nobody had stopped
	Behind     float64 `json:"p99_behind_seconds"` // from the acknowledgement of a write to its event
}

// watchers is one watcher for each client.
type watchers struct {
	list    []*watcher
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func (w *watchers) begin(ctx context.Context, st *stage) {
	ctx, w.cancel = context.WithCancel(ctx)
	for _, cli := range st.clients {
		one := &watcher{stage: st, watch: check.Watch{From: st.first + 1}, seen: make(map[string]time.Duration)}
		w.list = append(w.list, one)
		w.running.Go(func() { one.run(ctx, cli) })
	}
}

// quiesce does nothing: watchers do not write.
func (w *watchers) quiesce(context.Context) {}

func (w *watchers) settle(ctx context.Context, until int64) {
	defer w.running.Wait()
	defer w.cancel()
	for _, one := range w.list {
		for one.reached.Load() < until && wait(ctx, 10*time.Millisecond, nil) {
			continue
		}
	}
}

func (w *watchers) report(log *check.Log, list []call, result *Side) {
	r := &Watching{}
	var behind []time.Duration
	until := lastRevision(log)
	for _, one := range w.list {
		r.Events += one.watch.Events()
		r.Ended += one.ended
		r.Violations += countErrors(one.watch.Check(log, until))
		for _, c := range list {
			if at, ok := one.seen[c.value]; ok && c.write && c.acked && c.faulty {
				behind = append(behind, max(0, at-c.end))
			}
		}
	}
	slices.Sort(behind)
	r.Behind = quantile(behind, 0.99).Seconds()
	result.Watch = r
}

func lastRevision(log *check.Log) int64 {
	if len(log.Events) == 0 {
		return 0
	}
	return log.Events[len(log.Events)-1].Kv.ModRevision
}

func countErrors(err error) int {
	if err == nil {
		return 0
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return len(many.Unwrap())
	}
	return 1
}

// watcher watches all keys the calls write, as a user's program would: it
// watches again, from where it was, when a watch ends.
type watcher struct {
	stage   *stage
	watch   check.Watch
	ended   int
	seen    map[string]time.Duration // when the event of a value came
	reached atomic.Int64             // the last revision it was given
}

var errWatchEnded = errors.New("the watch ended")

func (w *watcher) run(ctx context.Context, cli *clientv3.Client) {
	again := func() reprise.Retryer {
		return reprise.OnErrorFunc(reprise.Backoff{Initial: 10 * time.Millisecond, Max: time.Second}, func(error) bool { return true })
	}
	// It ends with ctx only, and that is no news.
	_ = reprise.Invoke(ctx, func(ctx context.Context, _ reprise.CallSettings) error {
		w.once(ctx, cli)
		if ctx.Err() == nil {
			w.ended++
		}
		return errWatchEnded
	}, reprise.WithRetry(again))
}

func (w *watcher) once(ctx context.Context, cli *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from := max(w.watch.From, w.watch.Last()+1)
	for r := range cli.Watch(ctx, w.stage.keys, clientv3.WithPrefix(), clientv3.WithRev(from)) {
		if len(r.Events) == 0 {
			continue
		}
		now := time.Since(w.stage.start)
		for _, e := range r.Events {
			w.seen[string(e.Kv.Value)] = now
		}
		w.watch.Record(r.Events, 0)
		w.reached.Store(w.watch.Last())
	}
}
