package concurrency

import (
	"context"
	"errors"

	v3 "go.etcd.io/etcd/client/v3"
)

// ErrTooManyMembers is returned by [DoubleBarrier.Enter] when as many as the
// barrier is for have entered before.
var ErrTooManyMembers = errors.New("double barrier: all places are taken")

// DoubleBarrier lets a number of processes begin something together and end it
// together: Enter returns when all have entered, Leave when all have left. A
// member whose session ends has left. A DoubleBarrier is one member, is safe for
// concurrent use and can be used for one round after another. Its Enter and Leave
// wait for each other, within their contexts.
type DoubleBarrier struct {
	s     *Session
	pfx   string
	count int

	turns turns // of Enter and Leave, which guard what follows

	claim *claim // nil unless entered
	began int64  // the revision at which the round began
}

// NewDoubleBarrier returns a member of the barrier of the name key, which is for
// count members. Its keys lie under key + "/".
func NewDoubleBarrier(s *Session, key string, count int) *DoubleBarrier {
	return &DoubleBarrier{s: s, pfx: key + "/", count: count, turns: newTurns()}
}

// Enter waits until count members have entered:
//
//  1. create a key of one's own, bound to the session's lease.
//  2. follow the barrier. Who sees count members that came after the last round
//     had begun writes the key that says that the next has, unless it was written
//     since one's own was created. Others may be in the last round still.
//  3. return when that has been written: it is younger than the keys of all
//     members of this round, and older than those of the next.
//
// If ctx or the session ends before, the member has not entered.
func (b *DoubleBarrier) Enter(ctx context.Context) error {
	if err := b.turns.take(ctx); err != nil {
		return err
	}
	defer b.turns.end()
	if b.claim != nil && b.claim.loss() == nil {
		return ErrTooManyMembers
	}
	t, err := b.s.alive(ctx)
	if err != nil {
		return err
	}
	c := b.s.claim(t, b.pfx, memberKind, memberKind)
	ctx, release := t.bound(ctx)
	defer release()
	_, err = c.enter(ctx, "", false)
	if err == nil {
		err = b.awaitBegin(ctx, c)
	}
	if err != nil {
		c.abandon()
		return t.explain(err)
	}
	b.claim = c
	return nil
}

// Leave waits until all members of the round have left. It returns
// [ErrLockReleased] if this member has not entered. If ctx or the session ends
// before, the member has left nevertheless.
func (b *DoubleBarrier) Leave(ctx context.Context) error {
	if err := b.turns.take(ctx); err != nil {
		return err
	}
	defer b.turns.end()
	c := b.claim
	if c == nil {
		return ErrLockReleased
	}
	b.claim = nil
	if _, err := c.giveBack(ctx); err != nil {
		return err
	}
	return b.follow(ctx, c.term, func(m *members) bool { return m.before(b.began) == 0 })
}

// The keys of a double barrier.
const (
	memberKind = "members/"
	beginKey   = "begun"
)

func (b *DoubleBarrier) awaitBegin(ctx context.Context, c *claim) error {
	var failed error
	err := b.follow(ctx, c.term, func(m *members) bool {
		switch {
		case m.begun > c.rev:
			b.began = m.begun
			return true
		case m.keys[c.key] != c.rev:
			failed = &LostError{Key: c.key, Rev: c.rev, Err: errDeleted}
		case m.before(c.rev) >= b.count:
			failed = ErrTooManyMembers
		case len(m.keys)-m.before(m.begun) >= b.count:
			failed = b.begin(ctx, c)
		}
		return failed != nil
	})
	return errors.Join(failed, err)
}

// begin says that the round has begun, if nobody has.
func (b *DoubleBarrier) begin(ctx context.Context, c *claim) error {
	begun := b.pfx + beginKey
	_, err := repeatable(ctx, c.term.attempts, func(ctx context.Context) (*v3.TxnResponse, error) {
		return c.client().Txn(ctx).
			If(v3.Compare(v3.ModRevision(begun), "<", c.rev)).
			Then(v3.OpPut(begun, "")).Commit()
	})
	return err
}

// follow follows the barrier until done says so.
func (b *DoubleBarrier) follow(ctx context.Context, t *term, done func(*members) bool) error {
	ctx, release := t.bound(ctx)
	defer release()
	following, stop := context.WithCancel(ctx)
	defer stop()
	m := &members{pfx: b.pfx, done: done, stop: stop}
	all := []v3.OpOption{v3.WithPrefix()}
	follow(following, b.s.client, followed{key: b.pfx, watch: all, get: all}, m)
	if m.over {
		return nil
	}
	return t.explain(ctx.Err())
}

// members follows a double barrier.
type members struct {
	pfx  string
	done func(*members) bool
	stop context.CancelFunc
	over bool

	keys  map[string]int64 // create revisions
	begun int64            // when the last round began
}

// before returns how many members there are that were created before revision
// rev.
func (m *members) before(rev int64) int {
	n := 0
	for _, create := range m.keys {
		if create < rev {
			n++
		}
	}
	return n
}

// restarted implements follower.
func (m *members) restarted(snapshot *v3.GetResponse) {
	m.keys, m.begun = make(map[string]int64), 0
	for _, kv := range snapshot.Kvs {
		m.put(string(kv.Key), kv.CreateRevision, kv.ModRevision)
	}
	m.look()
}

// moved implements follower.
func (m *members) moved(batch *v3.WatchResponse) {
	for _, ev := range batch.Events {
		if ev.Type == v3.EventTypeDelete {
			delete(m.keys, string(ev.Kv.Key))
		} else {
			m.put(string(ev.Kv.Key), ev.Kv.CreateRevision, ev.Kv.ModRevision)
		}
		m.look()
	}
}

func (m *members) put(key string, create, mod int64) {
	if key == m.pfx+beginKey {
		m.begun = mod
		return
	}
	m.keys[key] = create
}

func (m *members) look() {
	if !m.over && m.done(m) {
		m.over = true
		m.stop()
	}
}
