package concurrency

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/reprise-go/reprise/etcdcall/internal/patience"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	v3 "go.etcd.io/etcd/client/v3"
)

// Session is a lease that is kept alive for as long as its owner lives. What is
// bound to the lease, such as the key of a lock, disappears with it, so that
// the locks of a process that died are free after the lease's time to live.
//
// A session that cannot renew its lease ends on its own, and by its own clock
// before the server can have let the lease expire; see [Session.Done]. One
// session serves any number of locks and elections. It is safe for concurrent
// use.
type Session struct {
	client  *v3.Client
	options sessionOptions

	// mark tells this session from others that keep the same lease.
	mark string
	// attempts are those at requests that the end of a term does not end.
	attempts *patience.Patience
	// life ends with Close, Orphan, or the context that the session was given.
	life context.Context
	end  context.CancelCauseFunc
	// tasks are the goroutines that work for the session.
	tasks sync.WaitGroup

	mu     sync.Mutex
	over   bool // no task may begin any more
	term   *term
	queues map[string]*queue
	idle   *queue // the one that was left last
}

// term is the part of a session's life in which it has one lease.
type term struct {
	epoch int64
	lease v3.LeaseID
	// ctx ends, with a SessionError as its cause, when the lease is not kept
	// any more.
	ctx context.Context
	end context.CancelCauseFunc
	// attempts are those at requests that end with the term.
	attempts *patience.Patience
	// followed is closed when the session has a new lease after this one.
	followed chan struct{}
}

// newTerm returns a term that ends with life, if not before.
func newTerm(life context.Context, epoch int64, lease v3.LeaseID) *term {
	t := &term{epoch: epoch, lease: lease, followed: make(chan struct{}), attempts: newAttempts()}
	t.ctx, t.end = context.WithCancelCause(life)
	context.AfterFunc(t.ctx, t.attempts.Exhaust)
	return t
}

// NewSession grants a lease and begins to keep it alive.
//
// It returns when the lease is granted, when the context of [WithContext] or of
// the client ends, or after the time of [WithGrantTimeout].
func NewSession(client *v3.Client, opts ...SessionOption) (*Session, error) {
	o := sessionOptions{ttl: defaultSessionTTL, ctx: client.Ctx(), grantTimeout: defaultGrantTimeout}
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	s := &Session{client: client, options: o, queues: make(map[string]*queue), attempts: newAttempts()}
	s.mark = strconv.FormatUint(uint64(rand.Uint32()), 16)
	s.life, s.end = context.WithCancelCause(context.WithoutCancel(o.ctx))

	ctx, cancel := context.WithTimeout(o.ctx, o.grantTimeout)
	defer cancel()
	l, err := s.obtain(ctx)
	if err != nil {
		return nil, err
	}
	s.begin(1, l)
	stop := context.AfterFunc(o.ctx, func() { s.finish(SessionCanceled, context.Cause(o.ctx)) })
	context.AfterFunc(s.life, func() { stop() })
	return s, nil
}

// Client returns the client that the session was made with.
func (s *Session) Client() *v3.Client { return s.client }

// Lease returns the lease that keys must be bound to in order to disappear with
// the session. Under [WithRegrant] it changes with the epoch.
func (s *Session) Lease() v3.LeaseID { return s.current().lease }

// Epoch counts the leases that the session has had, from 1. It stays 1 without
// [WithRegrant]. What was bound to the lease of an earlier epoch is lost.
func (s *Session) Epoch() int64 { return s.current().epoch }

// Ctx returns a context that ends when the lease is not kept any more. Its
// cause is a [*SessionError]. Under [WithRegrant] each epoch has its own.
func (s *Session) Ctx() context.Context { return s.current().ctx }

// Done returns a channel that is closed when the lease is orphaned, has or may
// have expired, or is otherwise not kept any more. It is the one of [Session.Ctx].
func (s *Session) Done() <-chan struct{} { return s.current().ctx.Done() }

// Orphan stops keeping the lease without revoking it: the server lets it expire,
// unless somebody else keeps it, as a program does that takes it over by
// [WithLease]. It returns when nothing of the session runs any more.
func (s *Session) Orphan() {
	s.finish(SessionOrphaned, nil)
	s.tasks.Wait()
}

// Close stops keeping the lease and revokes it, so that all that is bound to it
// disappears at once. It takes at most the lease's time to live, after which
// there is nothing left to revoke, and ends early with the context of
// [WithContext]. A lease that is gone already is no error.
func (s *Session) Close() error {
	s.finish(SessionClosed, nil)
	s.tasks.Wait()
	t := s.current()
	ctx, cancel := context.WithTimeout(s.options.ctx, time.Duration(s.options.ttl)*time.Second)
	defer cancel()
	_, err := s.client.Revoke(ctx, t.lease)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}

func (s *Session) current() *term {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.term
}

// alive returns the current term if its lease is being kept. Under WithRegrant
// it waits for the next one if need be.
func (s *Session) alive(ctx context.Context) (*term, error) {
	for {
		t := s.current()
		if t.ctx.Err() == nil {
			return t, nil
		}
		if !s.options.regrant || s.life.Err() != nil {
			return nil, context.Cause(t.ctx)
		}
		select {
		case <-t.followed:
		case <-s.life.Done():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// begin starts a term. If the session is about to end, the term ends with it.
func (s *Session) begin(epoch int64, l lease) {
	t := newTerm(s.life, epoch, l.id)
	s.mu.Lock()
	last := s.term
	s.term = t
	s.mu.Unlock()
	if last != nil {
		close(last.followed)
	}
	s.spawn(func() { s.keep(t, l) })
}

// keep renews the lease until it is lost or the session ends. Then, if the
// session is to have another lease, it begins the next term.
func (s *Session) keep(t *term, l lease) {
	reason, err := l.keep(t.ctx, s.client)
	t.end(&SessionError{Lease: t.lease, Epoch: t.epoch, Reason: reason, Err: err})
	if !s.options.regrant {
		return
	}
	if next, err := s.nextLease(); err == nil {
		s.begin(t.epoch+1, next)
	}
}

// finish ends the session, once.
func (s *Session) finish(reason SessionReason, err error) {
	s.mu.Lock()
	s.over = true
	t := s.term
	s.mu.Unlock()
	s.end(&SessionError{Lease: t.lease, Epoch: t.epoch, Reason: reason, Err: err})
}

// spawn runs task in a goroutine that the end of the session waits for. It
// returns false if the session has ended.
func (s *Session) spawn(task func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.tasks.Go(task)
	return true
}

// explain returns the error of what was done under t.bound(ctx) and failed with
// err: the end of the session goes before what it left behind.
func (t *term) explain(err error) error {
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.end(&SessionError{Lease: t.lease, Epoch: t.epoch, Reason: SessionRevoked, Err: err})
	}
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	return err
}
