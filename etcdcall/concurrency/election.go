package concurrency

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// Election chooses one of several candidates as the leader, first come first
// served. The leader's value can be read and followed by anybody.
//
// A candidate has one key under the election's prefix, named after its session's
// lease; the oldest key is the leader's, and its create revision numbers the
// leader's term. An Election is safe for concurrent use; use one for each session
// and prefix.
type Election struct {
	session *Session
	prefix  string

	mu     sync.Mutex
	led    *claim // nil unless elected
	mod    int64  // the revision of the leader's value, 0 if unknown
	last   *claim // the last candidacy, which may still be on its way out
	header *pb.ResponseHeader
	// resigned is closed when the last Resign of a leader has returned, nil before
	// the first.
	resigned chan struct{}

	campaigns turns // one candidacy at a time

	busy atomic.Bool // see claim.acquire
}

// NewElection returns the election of the name pfx. Its keys lie under pfx + "/".
func NewElection(s *Session, pfx string) *Election {
	return newElection(s, pfx+"/")
}

// ResumeElection returns an election that is led by leaderKey, created at revision
// leaderRev, for a process that takes over from one that was elected. Whether that
// is still so shows with the first Proclaim, or by Ctx.
//
// Unlike that of [NewElection], pfx is the whole prefix, with the slash, as it is
// in clientv3.
func ResumeElection(s *Session, pfx string, leaderKey string, leaderRev int64) *Election {
	e := newElection(s, pfx)
	e.led = s.claimAs(s.current(), pfx, leaderKey)
	e.led.rev = leaderRev
	e.last = e.led
	return e
}

func newElection(s *Session, prefix string) *Election {
	return &Election{session: s, prefix: prefix, campaigns: newTurns()}
}

// Campaign makes val a candidate and waits until it is elected. It costs one round
// trip if there is no other. If this Election leads already, val is proclaimed; if
// another Campaign of it is under way, that is waited for.
//
// It never returns nil without the leadership: whoever waited long is asked for in
// the store before. If ctx or the session ends, or anything else fails, the
// candidacy is withdrawn in the background.
func (e *Election) Campaign(ctx context.Context, val string) error {
	leads, err := e.stand(ctx, val)
	if err != nil || !leads {
		return err
	}
	return e.Proclaim(ctx, val)
}

// stand makes val a candidate and waits until it is elected, unless this Election
// leads already, with a value that may be another.
func (e *Election) stand(ctx context.Context, val string) (already bool, err error) {
	if err := e.campaigns.take(ctx); err != nil {
		return false, err
	}
	defer e.campaigns.end()
	if e.leads() != nil {
		return true, nil
	}
	t, err := e.session.alive(ctx)
	if err != nil {
		return false, err
	}
	late, err := e.settle(ctx)
	if err != nil {
		return false, err
	}
	c := e.session.claimAs(t, e.prefix, e.prefix+strconv.FormatInt(int64(t.lease), 16))
	c.uncertain, c.strict = late, true
	err = c.acquire(ctx, val, &e.busy)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last = c
	if err != nil {
		return false, err
	}
	if e.led, e.header, e.mod = c, c.header, c.rev; c.existed {
		e.mod = 0 // it may have been given another value since
	}
	return c.existed && c.value != val, nil
}

// Proclaim gives the leader's key a new value without another election. It returns
// ErrElectionNotLeader if the leadership is lost, or was never won.
func (e *Election) Proclaim(ctx context.Context, val string) error {
	c := e.leads()
	if c == nil {
		return ErrElectionNotLeader
	}
	p := &proclamation{claim: c, val: val, mod: e.modOf(c)}
	header, err := p.make(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.led != c {
		return err
	}
	switch {
	case err == nil:
		e.header, e.mod = header, p.mod
	case err == ErrElectionNotLeader: //nolint:errorlint // as proclamation returns it
		c.lose(errDeleted)
		c.give()
		c.retire()
		e.led = nil
	}
	return err
}

// Resign gives up the leadership, so that the next candidate is elected. It does
// nothing if this Election does not lead. If it fails, the leadership is given up
// in the background; Resign may be called again to wait for that.
func (e *Election) Resign(ctx context.Context) error {
	e.mu.Lock()
	c := e.led
	if c == nil {
		e.mu.Unlock()
		last, err := e.leaving(ctx)
		if last == nil || err != nil {
			return err
		}
		return last.withdrawn(ctx)
	}
	resigned := make(chan struct{})
	e.led, e.resigned = nil, resigned
	e.mu.Unlock()
	header, err := c.giveBack(ctx)
	close(resigned)
	if isLost(err) {
		return nil
	}
	if header != nil {
		e.mu.Lock()
		e.header = header
		e.mu.Unlock()
	}
	return err
}

// Leader returns the leader's key and value, or ErrElectionNoLeader. It is a
// linearizable read.
func (e *Election) Leader(ctx context.Context) (*v3.GetResponse, error) {
	resp, err := repeatable(ctx, e.session.attempts, func(ctx context.Context) (*v3.GetResponse, error) {
		return e.session.client.Get(ctx, e.prefix, v3.WithFirstCreate()...)
	})
	if err != nil {
		return nil, err
	}
	if len(resp.Kvs) == 0 {
		return nil, ErrElectionNoLeader
	}
	return resp, nil
}

// Ctx returns a context to lead under. It ends when the leadership is given up or
// lost, like that of [Mutex.Ctx].
func (e *Election) Ctx() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.led == nil {
		return endedContext
	}
	return e.led.context()
}

// Key returns the leader's key if this Election was elected, "" otherwise.
func (e *Election) Key() string {
	if c := e.leads(); c != nil {
		return c.key
	}
	return ""
}

// Rev returns the create revision of the leader's key if this Election was
// elected, 0 otherwise. It is the fencing token of the term, see [Mutex.Token].
func (e *Election) Rev() int64 {
	if c := e.leads(); c != nil {
		return c.rev
	}
	return 0
}

// Header returns the response header of the last successful Campaign, Proclaim or
// Resign.
func (e *Election) Header() *pb.ResponseHeader {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.header
}

// leads returns the claim of the leader unless it is known to be lost.
func (e *Election) leads() *claim {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.led == nil || e.led.loss() != nil {
		return nil
	}
	return e.led
}

func (e *Election) modOf(c *claim) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.led != c {
		return 0
	}
	return e.mod
}

// leaving returns the last candidacy when no Resign is at work on it any more, nil
// if there was none.
func (e *Election) leaving(ctx context.Context) (*claim, error) {
	e.mu.Lock()
	c, resigned := e.last, e.resigned
	e.mu.Unlock()
	if resigned == nil {
		return c, nil
	}
	select {
	case <-resigned:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// settle waits until nothing is under way that was done for an earlier candidacy:
// its key would have the same name. It reports whether that key may still come
// back.
func (e *Election) settle(ctx context.Context) (late bool, err error) {
	c, err := e.leaving(ctx)
	if c == nil || err != nil {
		return false, err
	}
	if err := c.settled(ctx); err != nil {
		return false, err
	}
	return c.uncertain, nil
}

// proclamation is one new value of the leader's key. It is guarded by the revision
// of the value that it replaces, so that no request that comes late can bring an
// old value back.
type proclamation struct {
	claim *claim
	val   string
	mod   int64
}

func (p *proclamation) make(ctx context.Context) (*pb.ResponseHeader, error) {
	c := p.claim
	put := v3.OpPut(c.key, p.val, v3.WithLease(c.term.lease))
	sent := false
	resp, err := repeatable(ctx, c.queue.session.attempts, func(ctx context.Context) (*v3.TxnResponse, error) {
		resp, err := c.client().Txn(ctx).
			If(c.own(), v3.Compare(v3.ModRevision(c.key), "=", p.mod)).
			Then(put).Else(v3.OpGet(c.key)).Commit()
		if err != nil {
			sent = true
			return nil, err
		}
		return resp, nil
	})
	switch {
	case err != nil:
		return nil, c.term.explain(err)
	case resp.Succeeded:
		p.mod = resp.Header.Revision
		return resp.Header, nil
	}
	kvs := resp.Responses[0].GetResponseRange().Kvs
	if len(kvs) == 0 || kvs[0].CreateRevision != c.rev {
		return nil, ErrElectionNotLeader
	}
	if p.mod = kvs[0].ModRevision; sent && string(kvs[0].Value) == p.val {
		return resp.Header, nil // an attempt without an answer has done it
	}
	return p.make(ctx)
}
