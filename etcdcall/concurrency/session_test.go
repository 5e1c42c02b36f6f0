package concurrency

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	v3 "go.etcd.io/etcd/client/v3"
)

// leases is a cluster of which only the revocation of leases is known.
type leases struct {
	v3.Lease
	revoke func(ctx context.Context, id v3.LeaseID) error
}

func (l *leases) Revoke(ctx context.Context, id v3.LeaseID) (*v3.LeaseRevokeResponse, error) {
	return &v3.LeaseRevokeResponse{}, l.revoke(ctx, id)
}

// sessionOn returns a session in its first term, whose lease nobody renews.
func sessionOn(ctx context.Context, l *leases, o sessionOptions) *Session {
	cli := v3.NewCtxClient(ctx)
	cli.Lease = l
	o.ctx = ctx
	s := &Session{client: cli, options: o, queues: make(map[string]*queue), attempts: newAttempts()}
	s.life, s.end = context.WithCancelCause(context.WithoutCancel(ctx))
	s.term = newTerm(s.life, 1, 7)
	return s
}

func TestASessionIsMadeAsItsOptionsSay(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts []SessionOption
		ttl  int64
	}{
		"none":         {nil, 60},
		"a TTL":        {[]SessionOption{WithTTL(1)}, 1},
		"nonsense":     {[]SessionOption{nil, WithTTL(0), WithTTL(-1), WithContext(nil), WithGrantTimeout(0), WithGrantTimeout(-1)}, 60}, //nolint:staticcheck // nil is documented
		"another time": {[]SessionOption{WithGrantTimeout(time.Second), WithTTL(5)}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &grants{}
				cli := v3.NewCtxClient(t.Context())
				cli.Lease = g
				s, err := NewSession(cli, test.opts...)
				if err != nil {
					t.Fatal(err)
				}
				if g.ttl != test.ttl || s.Lease() != 8 || s.Epoch() != 1 || s.Client() != cli || s.Ctx().Err() != nil {
					t.Errorf("a lease of %d s, %x in epoch %d, %v", g.ttl, int64(s.Lease()), s.Epoch(), s.Ctx().Err())
				}
				s.Orphan()
				<-s.Done()
				ended, ok := errors.AsType[*SessionError](context.Cause(s.Ctx()))
				if !ok || ended.Reason != SessionOrphaned || ended.Lease != 8 || ended.Epoch != 1 || ended.Err != nil {
					t.Errorf("cause: %v", context.Cause(s.Ctx()))
				}
			})
		})
	}
}

// TestALeaseIsNotWaitedForLongerThanAskedFor has a cluster that does not answer.
func TestALeaseIsNotWaitedForLongerThanAskedFor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opt   SessionOption
		after time.Duration
	}{
		"by default":             {nil, defaultGrantTimeout},
		"its own time":           {WithGrantTimeout(time.Second), time.Second},
		"no time":                {WithGrantTimeout(0), defaultGrantTimeout},
		"less than no time":      {WithGrantTimeout(-time.Second), defaultGrantTimeout},
		"the end of the client":  {WithGrantTimeout(time.Hour), time.Minute},
		"the end of its context": {WithContext(endedContext), 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				cli := v3.NewCtxClient(ctx)
				cli.Lease = &grants{fails: []func(context.Context) error{func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}}
				began := time.Now()
				_, err := NewSession(cli, test.opt)
				if err == nil || time.Since(began) != test.after {
					t.Errorf("%v after %v", err, time.Since(began))
				}
			})
		})
	}
}

func TestASessionEndsWithItsContext(t *testing.T) {
	t.Parallel()
	mine := errors.New("mine")
	for _, own := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, end := context.WithCancelCause(t.Context())
			cli, opt := v3.NewCtxClient(ctx), SessionOption(nil)
			if own {
				cli, opt = v3.NewCtxClient(t.Context()), WithContext(ctx)
			}
			cli.Lease = &grants{}
			s, err := NewSession(cli, opt)
			if err != nil {
				t.Fatal(err)
			}
			end(mine)
			<-s.Done()
			cause := context.Cause(s.Ctx())
			if ended, ok := errors.AsType[*SessionError](cause); !ok || ended.Reason != SessionCanceled || !errors.Is(cause, mine) {
				t.Errorf("with a context of its own, %v: %v", own, cause)
			}
			s.Orphan()
			if got := context.Cause(s.Ctx()); got != cause { //nolint:errorlint // the very error stays
				t.Errorf("what came first is forgotten: %v", got)
			}
		})
	}
}

// TestAContextForgetsASessionThatHasEnded has the context outlive the session.
func TestAContextForgetsASessionThatHasEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := &hooked{Context: t.Context(), done: make(chan struct{})}
		cli := v3.NewCtxClient(t.Context())
		cli.Lease = &grants{}
		s, err := NewSession(cli, WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		s.Orphan()
		synctest.Wait()
		if n := ctx.hooks.Load(); n != 0 {
			t.Errorf("%d of it are kept", n)
		}
	})
}

// TestTheEndOfASessionWaitsForItsTasks has a task take a minute to end.
func TestTheEndOfASessionWaitsForItsTasks(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *Session) error{
		"Close":  (*Session).Close,
		"Orphan": func(s *Session) error { s.Orphan(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				working, revoked := true, 0
				l := &leases{revoke: func(_ context.Context, id v3.LeaseID) error {
					if revoked++; working || id != 7 {
						t.Errorf("lease %d is revoked while somebody works: %v", id, working)
					}
					return nil
				}}
				s := sessionOn(t.Context(), l, sessionOptions{ttl: 10})
				s.spawn(func() {
					<-s.Done()
					time.Sleep(time.Minute)
					working = false
				})
				if err := end(s); err != nil || working {
					t.Errorf("%v, working: %v", err, working)
				}
				if want := name == "Close"; (revoked == 1) != want {
					t.Errorf("revoked %d times", revoked)
				}
				if s.spawn(func() {}) {
					t.Error("a task begins after the end")
				}
			})
		})
	}
}

// TestTheEndOfASessionWaitsForALeaseThatIsUnderWay has a lease be asked for, which
// takes 300 ms, when the session ends.
func TestTheEndOfASessionWaitsForALeaseThatIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &grants{}
		s := sessionOn(t.Context(), nil, sessionOptions{regrant: true})
		s.client.Lease = g
		s.begin(2, lease{7, time.Now(), time.Hour})
		s.current().end(errors.New("lost"))
		synctest.Wait()
		began := time.Now()
		s.Orphan()
		if took := time.Since(began); took != 300*time.Millisecond || len(g.asked) != 1 {
			t.Errorf("Orphan took %v after %q", took, g.asked)
		}
	})
}

func TestCloseTakesNoLongerThanTheLease(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context, _ v3.LeaseID) error { <-ctx.Done(); return ctx.Err() }
	for name, test := range map[string]struct {
		revoke  func(ctx context.Context, id v3.LeaseID) error
		context time.Duration // of the session
		want    error
		takes   time.Duration
	}{
		"no answer":               {hang, time.Hour, context.DeadlineExceeded, 10 * time.Second},
		"the session's context":   {hang, 3 * time.Second, context.DeadlineExceeded, 3 * time.Second},
		"a lease that is gone":    {func(context.Context, v3.LeaseID) error { return rpctypes.ErrLeaseNotFound }, time.Hour, nil, 0},
		"a lease that is refused": {func(context.Context, v3.LeaseID) error { return rpctypes.ErrPermissionDenied }, time.Hour, rpctypes.ErrPermissionDenied, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), test.context)
				defer cancel()
				s := sessionOn(ctx, &leases{revoke: test.revoke}, sessionOptions{ttl: 10})
				began := time.Now()
				if err := s.Close(); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) || time.Since(began) != test.takes {
					t.Errorf("%v after %v, want %v after %v", err, time.Since(began), test.want, test.takes)
				}
			})
		})
	}
}

// TestWhoComesBetweenTwoEpochsWaitsForTheNext has the first term of a session end,
// and asks for one.
func TestWhoComesBetweenTwoEpochsWaitsForTheNext(t *testing.T) {
	t.Parallel()
	lost := errors.New("lost")
	for name, test := range map[string]struct {
		regrant bool
		then    func(s *Session, cancel context.CancelFunc)
		want    error
		after   time.Duration
	}{
		"a new lease":        {true, func(s *Session, _ context.CancelFunc) { s.begin(2, lease{8, time.Now(), time.Hour}) }, nil, time.Second},
		"the caller's end":   {true, func(_ *Session, cancel context.CancelFunc) { cancel() }, context.Canceled, time.Second},
		"the session's end":  {true, func(s *Session, _ context.CancelFunc) { s.finish(SessionOrphaned, nil) }, lost, time.Second},
		"no lease to come":   {false, func(*Session, context.CancelFunc) {}, lost, 0},
		"an end before that": {true, func(*Session, context.CancelFunc) {}, lost, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := sessionOn(t.Context(), nil, sessionOptions{regrant: test.regrant})
				s.term.end(lost)
				if name == "an end before that" {
					s.finish(SessionClosed, nil)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				began := time.Now()
				time.AfterFunc(time.Second, func() { test.then(s, cancel) })
				got, err := s.alive(ctx)
				if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) || time.Since(began) != test.after {
					t.Errorf("%v after %v, want %v after %v", err, time.Since(began), test.want, test.after)
				}
				if err == nil && (got.epoch != 2 || got.lease != 8 || got.ctx.Err() != nil) {
					t.Errorf("epoch %d, lease %d, %v", got.epoch, got.lease, got.ctx.Err())
				}
				s.Orphan()
				time.Sleep(time.Second)
			})
		})
	}
}

// TestASessionThatLostItsLeaseHasAnotherOnlyIfAsked has the lease of the first term
// be lost.
func TestASessionThatLostItsLeaseHasAnotherOnlyIfAsked(t *testing.T) {
	t.Parallel()
	for _, regrant := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g := &grants{}
			s := sessionOn(t.Context(), nil, sessionOptions{ttl: 60, regrant: regrant})
			s.client.Lease = g
			s.term.end(errors.New("lost"))
			s.keep(s.term, lease{7, time.Now(), time.Minute})
			epoch := int64(1)
			if regrant {
				epoch = 2
			}
			if s.Epoch() != epoch || (len(g.asked) > 0) != regrant || (s.Ctx().Err() == nil) != regrant {
				t.Errorf("regrant %v: epoch %d, %q asked for, %v", regrant, s.Epoch(), g.asked, s.Ctx().Err())
			}
			s.Orphan()
		})
	}
}

// TestATermThatBeginsWhileTheSessionEndsHasTheCauseOfThatEnd has an end in two steps,
// as [Session.finish] makes it.
func TestATermThatBeginsWhileTheSessionEndsHasTheCauseOfThatEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionOn(t.Context(), nil, sessionOptions{regrant: true})
		s.over = true
		s.begin(2, lease{8, time.Now(), time.Hour})
		s.finish(SessionClosed, nil)
		if ended, ok := errors.AsType[*SessionError](context.Cause(s.Ctx())); !ok || ended.Reason != SessionClosed {
			t.Errorf("cause: %v", context.Cause(s.Ctx()))
		}
	})
}

func TestWhatIsBoundToATermEndsWithIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := sessionOn(t.Context(), nil, sessionOptions{})
		mine := errors.New("mine")
		first, release := s.term.bound(t.Context())
		ended := first.Done()
		release()
		<-ended
		second, release := s.term.bound(t.Context())
		defer release()
		if second.Err() != nil {
			t.Errorf("bound: %v", second.Err())
		}
		if err := s.term.explain(mine); err != mine { //nolint:errorlint // the very error is handed on
			t.Errorf("while it lasts: %v", err)
		}
		gone := s.term.explain(rpctypes.ErrLeaseNotFound)
		revoked, ok := errors.AsType[*SessionError](gone)
		if !ok || revoked.Reason != SessionRevoked || revoked.Lease != 7 || revoked.Epoch != 1 || !errors.Is(gone, rpctypes.ErrLeaseNotFound) {
			t.Errorf("a request found the lease gone: %v", gone)
		}
		<-second.Done()
		if cause := context.Cause(second); cause != gone { //nolint:errorlint // the very error is handed on
			t.Errorf("cause: %v", cause)
		}
		if err := s.term.explain(mine); err != gone { //nolint:errorlint // the very error is handed on
			t.Errorf("afterwards: %v", err)
		}
	})
}
