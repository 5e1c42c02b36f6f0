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

	busy atomic.Bool // see claim.acquire
}

// NewElection returns the election of the name pfx. Its keys lie under pfx + "/".
func NewElection(s *Session, pfx string) *Election {
	return &Election{session: s, prefix: pfx + "/"}
}

// ResumeElection returns an election that is led by leaderKey, created at revision
// leaderRev, for a process that takes over from one that was elected. Whether that
// is still so shows with the first Proclaim, or by Ctx.
//
// Unlike that of [NewElection], pfx is the whole prefix, with the slash, as it is
// in clientv3.
func ResumeElection(s *Session, pfx string, leaderKey string, leaderRev int64) *Election {
	e := &Election{session: s, prefix: pfx}
	e.led = s.claimAs(s.current(), pfx, leaderKey)
	e.led.rev = leaderRev
	e.last = e.led
	return e
}

// Campaign makes val a candidate and waits until it is elected. It costs one round
// trip if there is no other. If this Election leads already, val is proclaimed.
//
// It never returns nil without the leadership: whoever waited long is asked for in
// the store before. If ctx or the session ends, or anything else fails, the
// candidacy is withdrawn in the background.
func (e *Election) Campaign(ctx context.Context, val string) error {
	if e.leads() != nil {
		return e.Proclaim(ctx, val)
	}
	t, err := e.session.alive(ctx)
	if err != nil {
		return err
	}
	late, err := e.settle(ctx)
	if err != nil {
		return err
	}
	c := e.session.claimAs(t, e.prefix, e.prefix+strconv.FormatInt(int64(t.lease), 16))
	c.uncertain = late
	err = c.acquire(ctx, val, &e.busy)
	e.mu.Lock()
	e.last = c
	if err == nil {
		e.led, e.header, e.mod = c, c.header, 0
	}
	e.mu.Unlock()
	if err == nil && c.existed && c.value != val {
		return e.Proclaim(ctx, val)
	}
	return err
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
	c, last := e.led, e.last
	e.led = nil
	e.mu.Unlock()
	switch {
	case c != nil:
	case last == nil:
		return nil
	default:
		return last.withdrawn(ctx)
	}
	header, err := c.giveBack(ctx)
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
	resp, err := repeatable(ctx, func(ctx context.Context) (*v3.GetResponse, error) {
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

// settle waits until nothing is under way that was done for an earlier candidacy:
// its key would have the same name. It reports whether that key may still come
// back.
func (e *Election) settle(ctx context.Context) (late bool, err error) {
	e.mu.Lock()
	c := e.last
	e.mu.Unlock()
	if c == nil {
		return false, nil
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
	resp, err := repeatable(ctx, func(ctx context.Context) (*v3.TxnResponse, error) {
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
