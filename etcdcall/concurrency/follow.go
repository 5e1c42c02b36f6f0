package concurrency

import (
	"context"
	"errors"
	"time"

	"github.com/reprise-go/reprise"
	v3 "go.etcd.io/etcd/client/v3"
)

// establishTimeout bounds how long a watch may take to begin before it is
// begun anew, perhaps at another member.
const establishTimeout = 5 * time.Second

var errWatchEnded = errors.New("concurrency: the watch has ended")

// follower is told what a key or prefix holds and what happens there.
type follower interface {
	// restarted is called with a snapshot: at the beginning, and
	// after a break that may have hidden events.
	restarted(snapshot *v3.GetResponse)
	// moved is called with the events that followed, in order.
	moved(batch *v3.WatchResponse)
}

// followed says what is followed, and by which options.
type followed struct {
	key        string
	watch, get []v3.OpOption
}

// follow tells f what a key or prefix holds and what happens there until ctx
// ends. It is one long-lived watch:
//
//  1. begin a watch from now, and wait until it stands. From now, and not from
//     a revision of the past: etcd serves the latter from a loop that runs ten
//     times a second.
//  2. read, linearizably. The read is later than the beginning of
//     the watch, so that nothing can happen unseen between the two. What the
//     watch reports of revisions up to the read is in the read already.
//  3. pass on the events, in order.
//  4. when the watch breaks, for whatever reason, start over. So compaction
//     cannot end it: no revision of the past is asked for.
//
// It returns when ctx has ended and no earlier. So the loop does not know of a
// deadline: it would end before it if the next pause were longer.
func follow(ctx context.Context, cli *v3.Client, what followed, f follower) {
	undated, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, cancel)
	pause := pauses
	_ = reprise.Invoke(undated, func(ctx context.Context, _ reprise.CallSettings) error {
		return followOnce(ctx, cli, what, f, pause.Reset)
	}, reprise.WithRetry(func() reprise.Retryer {
		return reprise.RetryerFunc(func(error) (time.Duration, bool) { return pause.Pause(), true })
	}))
}

// followOnce does so until the watch breaks, and returns an error then. It calls
// standing when nothing more can be missed.
func followOnce(ctx context.Context, cli *v3.Client, what followed, f follower, standing func()) error {
	ctx, cancel := context.WithCancel(v3.WithRequireLeader(ctx))
	defer cancel()
	late := time.AfterFunc(establishTimeout, cancel)
	defer late.Stop()

	events := cli.Watch(ctx, what.key, append([]v3.OpOption{v3.WithCreatedNotify()}, what.watch...)...)
	if first := <-events; !first.Created {
		return errWatchEnded
	}
	snapshot, err := cli.Get(ctx, what.key, what.get...)
	if err != nil {
		return err
	}
	late.Stop()
	standing()

	f.restarted(snapshot)
	for batch := range events { // which ends after one that has an error
		if batch.Events = after(snapshot.Header.Revision, batch.Events); len(batch.Events) > 0 {
			f.moved(&batch)
		}
	}
	return errWatchEnded
}

// after returns the events that are later than revision rev.
func after(rev int64, events []*v3.Event) []*v3.Event {
	for len(events) > 0 && events[0].Kv.ModRevision <= rev {
		events = events[1:]
	}
	return events
}
