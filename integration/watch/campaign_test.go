package watch_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/check"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

const prefix = "p/"

// spectator is a watcher of the campaign. Where compaction overtook it, it goes
// on from the first revision that is left, as another check.Watch.
type spectator struct {
	name  string
	opts  []clientv3.OpOption
	match func(*clientv3.Event) bool
	// clientv3 makes it read the channel of the drop-in Watcher.
	dropIn bool
	// bookmarks makes it believe in the revision of each portion.
	bookmarks bool

	watches []*check.Watch
	last    *check.Watch
}

func spectators() []*spectator {
	puts := func(e *clientv3.Event) bool { return e.Type == clientv3.EventTypePut }
	deletes := func(e *clientv3.Event) bool { return e.Type == clientv3.EventTypeDelete }
	return []*spectator{
		{name: "all", bookmarks: true},
		{name: "with progress", bookmarks: true, opts: []clientv3.OpOption{clientv3.WithProgressNotify()}},
		{name: "puts only", match: puts, opts: []clientv3.OpOption{clientv3.WithFilterDelete()}},
		{name: "deletions only", match: deletes, opts: []clientv3.OpOption{clientv3.WithFilterPut()}},
		{name: "drop-in", dropIn: true},
		{name: "drop-in, fragments", dropIn: true, opts: []clientv3.OpOption{clientv3.WithFragment()}},
	}
}

func (s *spectator) begin(from int64) {
	s.last = &check.Watch{From: from, Match: s.match}
	s.watches = append(s.watches, s.last)
}

// run watches from revision from until it was given an event of the key that
// ends the campaign.
func (s *spectator) run(ctx context.Context, cli *clientv3.Client, from int64) error {
	for {
		s.begin(from)
		follow := s.own
		if s.dropIn {
			follow = s.channel
		}
		err := follow(ctx, cli, from)
		var broken *etcdcall.WatchError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &broken) && broken.Reason == etcdcall.WatchCompacted:
			from = broken.CompactRevision
		default:
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
}

func (s *spectator) options(from int64) []clientv3.OpOption {
	return append([]clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(from)}, s.opts...)
}

func (s *spectator) own(ctx context.Context, cli *clientv3.Client, from int64) error {
	w, err := etcdcall.NewWatch(ctx, cli, prefix, s.options(from)...)
	if err != nil {
		return err
	}
	defer w.Stop()
	for c, err := range w.All() {
		if err != nil {
			return err
		}
		complete := c.Revision
		if !s.bookmarks {
			complete = 0
		}
		events, ended := s.upToEnd(c.Events)
		s.last.Record(events, complete)
		if ended {
			return nil
		}
	}
	return errors.New("the loop ended without an error")
}

func (s *spectator) channel(ctx context.Context, cli *clientv3.Client, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for r := range cli.Watch(ctx, prefix, s.options(from)...) {
		if r.CompactRevision != 0 {
			return &etcdcall.WatchError{Reason: etcdcall.WatchCompacted, CompactRevision: r.CompactRevision}
		}
		if err := r.Err(); err != nil {
			return err
		}
		events, ended := s.upToEnd(r.Events)
		s.last.Record(events, 0)
		if ended {
			return nil
		}
	}
	return fmt.Errorf("the channel closed without an error: %w", context.Cause(ctx))
}

// mirror keeps r in step with the store until lastKey is there.
func mirror(ctx context.Context, cli *clientv3.Client, r replica) error {
	l, err := etcdcall.NewListWatch(ctx, cli, prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	defer l.Stop()
	found := false
	for c, err := range l.All() {
		if err != nil {
			return err
		}
		r.apply(c.Events)
		found = found || slices.ContainsFunc(c.Events, func(ev *clientv3.Event) bool { return string(ev.Kv.Key) == lastKey })
		if found && !c.More {
			return nil // after the deletions, which are the last of a list
		}
	}
	return errors.New("the loop ended without an error")
}

// endKey sorts last; it is put and deleted when the campaign is over.
const endKey = prefix + "~"

// lastKey is put just before that, and stays.
const lastKey = endKey + "~"

// upToEnd returns the events up to the last one that s is to be given, and
// whether that is among them. What the historian writes after it may come with
// it to a watcher that is late.
func (s *spectator) upToEnd(events []*clientv3.Event) (kept []*clientv3.Event, ended bool) {
	end := slices.IndexFunc(events, func(ev *clientv3.Event) bool {
		return string(ev.Kv.Key) == endKey && (ev.Type == clientv3.EventTypeDelete || s.match != nil)
	})
	if end < 0 {
		return events, false
	}
	return events[:end+1], true
}

// runEvery calls f until ctx ends; its errors are those of a cluster under
// faults.
func runEvery(ctx context.Context, d time.Duration, f func(ctx context.Context) error) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		_ = f(bounded)
		cancel()
	}
}

// write makes a transaction of two to seven changes.
func write(c *etcdtest.Cluster, random *rand.Rand) func(ctx context.Context) error {
	n := 0
	return func(ctx context.Context) error {
		leader := c.Leader()
		if leader == nil {
			return errors.New("no leader")
		}
		truth, err := leader.Truth()
		if err != nil {
			return err
		}
		var ops []clientv3.Op
		for i := range 2 + random.IntN(6) {
			key := fmt.Sprint(prefix, i, random.IntN(5))
			if n++; random.IntN(4) == 0 {
				ops = append(ops, clientv3.OpDelete(key))
			} else {
				ops = append(ops, clientv3.OpPut(key, fmt.Sprint(n)))
			}
		}
		_, err = truth.Txn(ctx).Then(ops...).Commit()
		return err
	}
}

// afflict does something to a member, and undoes it after a while.
func afflict(c *etcdtest.Cluster, random *rand.Rand) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		m := c.Member(random.IntN(len(c.Members())))
		link := m.ClientLink()
		last := func() {
			pause := time.NewTimer(time.Duration(50+random.IntN(200)) * time.Millisecond)
			defer pause.Stop()
			<-pause.C
		}
		switch random.IntN(8) {
		case 0, 1:
			link.Reset()
			return nil
		case 2:
			err := link.Cut()
			last()
			return errors.Join(err, link.Heal())
		case 3:
			err := link.BlackHole(etcdtest.Both)
			last()
			return errors.Join(err, link.Heal())
		case 4:
			err := link.Delay(etcdtest.Both, time.Duration(1+random.IntN(10))*time.Millisecond)
			last()
			return errors.Join(err, link.Heal())
		case 5:
			err := m.Kill()
			last()
			return errors.Join(err, m.Restart(ctx))
		case 6:
			err := c.Isolate(m)
			last()
			return errors.Join(err, c.HealPeers())
		default:
			return c.MoveLeader(ctx, m)
		}
	}
}

func TestWatchesKeepEveryGuaranteeUnderFaults(t *testing.T) {
	t.Parallel()
	for _, members := range []int{1, 3} {
		t.Run(fmt.Sprint(members, " members"), func(t *testing.T) {
			t.Parallel()
			wanted := 10_000
			if *campaign {
				wanted = 200_000
			}
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			runCampaign(t, members, wanted, seed)
		})
	}
}

func runCampaign(t *testing.T, members, wanted int, seed uint64) {
	c := etcdtest.New(t, etcdtest.WithMembers(members))
	cli := client(t, c, etcdcall.WithWatchSilence(500*time.Millisecond))
	first := putTruth(t, c, prefix+"begin", "it begins")
	h := &historian{cluster: c, next: first}

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	all := spectators()
	errs := make(chan error, len(all))
	for _, s := range all {
		go func() { errs <- s.run(ctx, cli, first) }()
	}

	copied := make(chan error, 1)
	r := replica{}
	go func() { copied <- mirror(ctx, cli, r) }()

	over, end := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { runEvery(over, time.Millisecond, write(c, rand.New(rand.NewPCG(seed, 1)))) })
	work.Go(func() { runEvery(over, time.Millisecond, write(c, rand.New(rand.NewPCG(seed, 2)))) })
	work.Go(func() { runEvery(over, 250*time.Millisecond, afflict(c, rand.New(rand.NewPCG(seed, 3)))) })
	work.Go(func() {
		runEvery(over, 100*time.Millisecond, func(ctx context.Context) error {
			if len(h.log.Events) >= wanted {
				end()
			}
			return h.look(ctx)
		})
	})
	work.Wait()
	end()

	finish(t, c)
	for range all {
		must(t, <-errs)
	}
	must(t, <-copied)
	var want replica
	until(t, c, func(ctx context.Context, truth *clientv3.Client) (err error) {
		want, err = readStored(ctx, truth, prefix)
		return err
	})
	last := h.complete(t)
	h.agree(t)
	given := 0
	delete(r, endKey) // a list may have seen it
	if !maps.Equal(r, want) {
		t.Errorf("the copy of the keys differs from the store: got %v, want %v", r, want)
	}
	for _, s := range all {
		for i, w := range s.watches {
			until := last
			if i+1 < len(s.watches) {
				until = w.Last() // compaction took what came after
			}
			if err := w.Check(&h.log, until); err != nil {
				t.Errorf("%s, watch %d of %d: %v", s.name, i+1, len(s.watches), err)
			}
			given += w.Events()
		}
		t.Logf("%s: %d watches", s.name, len(s.watches))
	}
	t.Logf("%d changes, %d given to %d watchers, the last revision %d", len(h.log.Events), given, len(all), last)
}
