package concurrency

import (
	"bytes"
	"context"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// place is what is known of the place of a claim in its queue. The zero place is
// the head.
type place struct {
	// ahead are those before the claim, the youngest first: the one that it waits
	// for, the one that is before that, and perhaps more.
	ahead []*mvccpb.KeyValue
	// known is a revision at which ahead were all that were before the claim, and its
	// own key was there; 0 if there may be others.
	known int64
	// asked is when the store was asked for this.
	asked time.Time
}

const (
	// manySessions before a claim make its queue a crowded one, and fewer than
	// fewSessions make it one that is not.
	fewSessions, manySessions = 8, 12
	// manyKeys of other sessions make it a crowded one, too, or manyClaims of one session:
	// each of them has a list of the others.
	manyKeys, manyClaims = 32, 256
	// sight is how many of those before it a claim looks at in a crowd.
	sight = 2
	// fresh is how long the word of the store that a claim is the next holds good.
	fresh = 50 * time.Millisecond
)

// crowded reports whether so many sessions stand in the queue of prefix, which was crowded
// before or not, that each does better to watch the neighbours of its claims alone.
func (p *place) crowded(prefix string, before bool) bool {
	limit := manySessions
	if before {
		limit = fewSessions
	}
	sessions := make(map[string]bool, limit)
	for _, kv := range p.ahead {
		session, _, _ := bytes.Cut(kv.Key[len(prefix):], []byte("-"))
		sessions[string(session)] = true
	}
	return p.known == 0 || len(sessions) >= limit
}

func (p *place) head() bool { return len(p.ahead) == 0 }

// next reports whether the claim is at the head as soon as the one before it is gone:
// a moment ago nobody else was before it, and its own key was there. Nobody can come
// before it since. But its key can go together with the other, if that has the same
// lease, which the names of keys begin with.
func (c *claim) next(p *place) bool {
	return !c.strict && p.known > 0 && len(p.ahead) == 1 && time.Since(p.asked) < fresh &&
		!bytes.Contains(p.ahead[0].Key, strconv.AppendInt(nil, int64(c.term.lease), 16))
}

// wait waits until the claim, whose place is p, is at the head of a crowded queue.
//
// The one before it goes when it has given the lock back, or when it gives up
// waiting itself; so the claim has to know who is before it then. It may know that
// already, since it reads it when the one before it becomes the holder, which is
// when the one before that goes. So, where a lock passes from hand to hand quickly,
// the event of its release is all that it takes. Otherwise a read follows, at the
// revision of that event or later.
//
// The claim was at the head while wait ran, then, by the word of the store: of the
// read, or of the event and a read that was asked for no longer than fresh before. The
// latter is not enough for a claim that is strict.
func (c *claim) wait(ctx context.Context, p place) (err error) {
	before, beyond := nothing, nothing
	defer func() { before.leave(); beyond.leave() }()
	for !p.head() {
		before = c.departure(before, p.ahead[0])
		var passed <-chan int64
		if len(p.ahead) > 1 && !c.strict {
			beyond = c.departure(beyond, p.ahead[1])
			passed = beyond.gone
		}
		select {
		case rev := <-before.gone:
			if c.next(&p) && ctx.Err() == nil {
				c.header = headerAt(c.header, rev)
				return nil
			}
			p, err = c.look(ctx, rev)
		case rev := <-passed:
			p, err = c.look(ctx, rev)
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// departing is a key of another claim, which is going to be gone.
type departing struct {
	key    string
	create int64
	gone   <-chan int64 // receives a revision at which it is gone, once
	leave  func()       // stops waiting for that
}

// nothing is what nobody waits for.
var nothing = departing{leave: func() {}}

// departure begins to wait until a key is gone, unless last does already, which ends
// otherwise.
func (c *claim) departure(last departing, kv *mvccpb.KeyValue) departing {
	key := string(kv.Key)
	if last.key == key && last.create == kv.CreateRevision {
		return last
	}
	last.leave()
	gone := make(chan int64, 1)
	leave := c.queue.watch(key, kv.CreateRevision, func(rev int64) { gone <- rev })
	return departing{key, kv.CreateRevision, gone, leave}
}
