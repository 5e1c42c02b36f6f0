package concurrency

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	v3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise/etcdcall"
)

// renewals is a server that renews a lease as the test says.
type renewals struct {
	pb.LeaseClient
	// answer answers the n-th renewal, from 1 on.
	answer func(ctx context.Context, n int) (ttl int64, err error)
	// refusing says that streams end before they take a request.
	refusing error

	sent    []time.Time
	streams []context.Context
}

func (r *renewals) LeaseKeepAlive(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse], error) {
	if !slices.Contains(opts, grpc.WaitForReady(true)) {
		return nil, errors.New("the connection is not waited for")
	}
	if md, _ := metadata.FromOutgoingContext(ctx); len(md.Get(rpctypes.MetadataRequireLeaderKey)) == 0 {
		return nil, errors.New("a member without a leader could answer")
	}
	r.streams = append(r.streams, ctx)
	return &renewal{renewals: r, ctx: ctx}, nil
}

type renewal struct {
	grpc.ClientStream
	*renewals
	ctx context.Context
	id  int64
}

func (r *renewal) Send(req *pb.LeaseKeepAliveRequest) error {
	if r.refusing != nil {
		return io.EOF
	}
	r.id, r.sent = req.ID, append(r.sent, time.Now())
	return nil
}

func (r *renewal) Recv() (*pb.LeaseKeepAliveResponse, error) {
	if r.refusing != nil {
		return nil, r.refusing
	}
	ttl, err := r.answer(r.ctx, len(r.sent))
	return &pb.LeaseKeepAliveResponse{ID: r.id, TTL: ttl}, err
}

// never does not answer.
func never(ctx context.Context) (int64, error) {
	<-ctx.Done()
	return 0, status.FromContextError(ctx.Err()).Err()
}

func TestALeaseIsTrustedForNineTenthsOrAllButASecond(t *testing.T) {
	t.Parallel()
	asked := time.Now()
	for ttl, want := range map[time.Duration]time.Duration{
		2 * time.Second:  1800 * time.Millisecond,
		9 * time.Second:  8100 * time.Millisecond,
		10 * time.Second: 9 * time.Second,
		time.Minute:      59 * time.Second,
	} {
		if got := (lease{7, asked, ttl}).until().Sub(asked); got != want {
			t.Errorf("a lease of %v is trusted for %v, want %v", ttl, got, want)
		}
	}
}

// TestAPlainLeaseLastsFromWhenItsRenewalWasSentMinusAMargin has one renewal
// answered late and with another time than before, and no other answered.
func TestAPlainLeaseLastsFromWhenItsRenewalWasSentMinusAMargin(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ttl    int64
		margin time.Duration
	}{{2, 200 * time.Millisecond}, {5, 500 * time.Millisecond}, {10, time.Second}, {600, time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			r := &renewals{answer: func(ctx context.Context, n int) (int64, error) {
				if n > 1 {
					return never(ctx)
				}
				time.Sleep(300 * time.Millisecond)
				return test.ttl, nil
			}}
			ttl := time.Duration(test.ttl) * time.Second
			l := lease{id: 7, asked: time.Now(), ttl: 2 * ttl}
			reason, err := l.keepPlainly(t.Context(), r)
			// If it ends between two attempts, no pause is made that would outlast it.
			lasted, want := time.Since(r.sent[0]), ttl-test.margin
			if reason != SessionExpired || !errors.Is(err, errNotRenewed) || lasted > want || lasted < want-pauses.Max {
				t.Errorf("TTL %d: %v (%v) after %v, want expired after %v", test.ttl, reason, err, lasted, want)
			}
			for i, stream := range r.streams {
				if stream.Err() == nil {
					t.Errorf("stream %d is left open", i)
				}
			}
		})
	}
}

func TestAPlainLeaseIsRenewedAfterAThirdOfItsTimeOrTheCheck(t *testing.T) {
	t.Parallel()
	for ttl, want := range map[int64]time.Duration{2: time.Second * 2 / 3, 6: 2 * time.Second, 60: 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			r := &renewals{answer: func(context.Context, int) (int64, error) { return ttl, nil }}
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("enough")
			time.AfterFunc(100*time.Second, func() { cancel(why) })
			began := time.Now()
			l := lease{id: 7, asked: began, ttl: time.Duration(ttl) * time.Second}
			if reason, err := l.keepPlainly(ctx, r); reason != SessionCanceled || !errors.Is(err, why) || time.Since(began) != 100*time.Second {
				t.Errorf("TTL %d: %v (%v) after %v", ttl, reason, err, time.Since(began))
			}
			last := began
			for _, sent := range r.sent {
				if got := sent.Sub(last).Round(time.Millisecond); got != want.Round(time.Millisecond) {
					t.Fatalf("TTL %d: renewed after %v, want %v", ttl, got, want)
				}
				last = sent
			}
			if time.Since(last) > want {
				t.Errorf("TTL %d: it was not renewed for %v", ttl, time.Since(last))
			}
		})
	}
}

// TestAPlainRenewalIsMadeAgainUnlessTheLeaseIsGone has renewals fail in several
// ways, and then the lease be gone.
func TestAPlainRenewalIsMadeAgainUnlessTheLeaseIsGone(t *testing.T) {
	t.Parallel()
	gone := func(context.Context) (int64, error) { return 0, nil }
	down := func(context.Context) (int64, error) { return 0, status.Error(codes.Unavailable, "down") }
	for name, test := range map[string]struct {
		answers []func(context.Context) (int64, error)
		within  time.Duration // of the first, for all
	}{
		"gone":          {[]func(context.Context) (int64, error){gone}, 0},
		"unavailable":   {[]func(context.Context) (int64, error){down, down, gone}, time.Second},
		"not answered":  {[]func(context.Context) (int64, error){never, gone}, attemptTimeout + time.Second},
		"and yet again": {[]func(context.Context) (int64, error){never, down, never, gone}, 2*attemptTimeout + 2*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &renewals{answer: func(ctx context.Context, n int) (int64, error) { return test.answers[n-1](ctx) }}
				l := lease{id: 7, asked: time.Now(), ttl: time.Minute}
				reason, err := l.keepPlainly(t.Context(), r)
				if reason != SessionRevoked || !errors.Is(err, rpctypes.ErrLeaseNotFound) || len(r.sent) != len(test.answers) {
					t.Errorf("%v (%v) after %d renewals", reason, err, len(r.sent))
				}
				if took := time.Since(r.sent[0]); took > test.within {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// TestAStreamThatEndsTellsWhy has the server refuse a stream: Send knows no more
// than that it has ended.
func TestAStreamThatEndsTellsWhy(t *testing.T) {
	t.Parallel()
	r := &renewals{refusing: rpctypes.ErrGRPCPermissionDenied}
	if _, err := renewOnce(t.Context(), r, 7); !errors.Is(err, rpctypes.ErrGRPCPermissionDenied) {
		t.Errorf("got %v", err)
	}
}

func TestARenewalEndsItsStream(t *testing.T) {
	t.Parallel()
	r := &renewals{answer: func(context.Context, int) (int64, error) { return 60, nil }}
	resp, err := renewOnce(t.Context(), r, 7)
	if err != nil || resp.ID != 7 || resp.TTL != 60 || r.streams[0].Err() == nil {
		t.Errorf("got %v, %v; the stream: %v", resp, err, r.streams[0].Err())
	}
}

// TestALeaseOfEtcdcallEndsAsItsKeeperSays has no server.
func TestALeaseOfEtcdcallEndsAsItsKeeperSays(t *testing.T) {
	t.Parallel()
	mine := errors.New("mine")
	over := lease{7, time.Now().Add(-time.Hour), time.Hour}
	for name, test := range map[string]struct {
		lease  lease
		before func(end context.CancelCauseFunc, cli *v3.Client)
		reason SessionReason
		want   error
	}{
		"its time is over":     {over, nil, SessionExpired, nil},
		"its session has gone": {lease{7, time.Now(), time.Hour}, func(end context.CancelCauseFunc, _ *v3.Client) { end(mine) }, SessionCanceled, mine},
		"its client is closed": {lease{7, time.Now(), time.Hour}, func(_ context.CancelCauseFunc, cli *v3.Client) { _ = cli.Close() }, SessionCanceled, etcdcall.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cli, err := etcdcall.New(v3.Config{Endpoints: []string{"127.0.0.1:1"}, Logger: zap.NewNop()})
			if err != nil {
				t.Fatal(err)
			}
			defer cli.Close()
			ctx, end := context.WithCancelCause(t.Context())
			defer end(nil)
			if test.before != nil {
				test.before(end, cli)
			}
			if reason, err := test.lease.keep(ctx, cli); reason != test.reason || err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%v: %v", reason, err)
			}
		})
	}
}

// grants is a cluster that grants and renews leases, in 300 ms.
type grants struct {
	v3.Lease
	fails  []func(ctx context.Context) error // the first grants
	asked  []string
	ttl    int64 // that was asked for last
	expiry int64
}

func (g *grants) Grant(ctx context.Context, ttl int64) (*v3.LeaseGrantResponse, error) {
	g.asked, g.ttl = append(g.asked, "grant"), ttl
	if len(g.fails) > 0 {
		fail := g.fails[0]
		g.fails = g.fails[1:]
		return nil, fail(ctx)
	}
	time.Sleep(300 * time.Millisecond)
	return &v3.LeaseGrantResponse{ID: 8, TTL: max(ttl, g.expiry)}, nil
}

func (g *grants) KeepAliveOnce(_ context.Context, id v3.LeaseID) (*v3.LeaseKeepAliveResponse, error) {
	g.asked = append(g.asked, "renew")
	time.Sleep(300 * time.Millisecond)
	return &v3.LeaseKeepAliveResponse{ID: id, TTL: g.expiry}, nil
}

// TestALeaseIsObtainedFromWhenItWasAskedFor has a server that does not let a lease
// be as short as it was asked for.
func TestALeaseIsObtainedFromWhenItWasAskedFor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		given v3.LeaseID
		later bool // not in the first term
		want  lease
		asked string
	}{
		"a new one":                   {0, false, lease{id: 8, ttl: 9 * time.Second}, "grant"},
		"a given one":                 {5, false, lease{id: 5, ttl: 9 * time.Second}, "renew"},
		"one after the given is lost": {5, true, lease{id: 8, ttl: 9 * time.Second}, "grant"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &grants{expiry: 9}
				s := sessionOn(t.Context(), nil, sessionOptions{ttl: 1, lease: test.given})
				s.client.Lease = g
				if !test.later {
					s.term = nil
				}
				test.want.asked = time.Now()
				if got, err := s.obtain(t.Context()); err != nil || got != test.want || !slices.Equal(g.asked, []string{test.asked}) {
					t.Errorf("got %+v, %v by %v; want %+v", got, err, g.asked, test.want)
				}
			})
		})
	}
}

// TestTheNextLeaseIsAskedForUntilItIsThere has a server fail, also in a way that
// would not pass, and not answer.
func TestTheNextLeaseIsAskedForUntilItIsThere(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	denied := func(context.Context) error { return rpctypes.ErrPermissionDenied }
	synctest.Test(t, func(t *testing.T) {
		g := &grants{fails: []func(context.Context) error{denied, hang, denied}}
		s := sessionOn(t.Context(), nil, sessionOptions{ttl: 10})
		s.client.Lease = g
		began := time.Now()
		got, err := s.nextLease()
		if err != nil || got.id != 8 || len(g.asked) != 4 {
			t.Errorf("got %+v, %v after %d requests", got, err, len(g.asked))
		}
		if took := time.Since(began); took > attemptTimeout+time.Second {
			t.Errorf("it took %v", took)
		}
		s.finish(SessionClosed, nil)
		if _, err := s.nextLease(); err == nil || len(g.asked) != 4 {
			t.Error("a lease was asked for after the end")
		}
	})
}

func TestWhyALeaseIsNotKept(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancelCause(t.Context())
	mine := errors.New("mine")
	end(mine)
	refused := &etcdcall.LeaseError{Reason: etcdcall.LeaseRefused, Err: context.DeadlineExceeded}
	for name, test := range map[string]struct {
		ctx    context.Context
		err    error
		reason SessionReason
		want   error
	}{
		"gone":                {t.Context(), &etcdcall.LeaseError{Reason: etcdcall.LeaseGone}, SessionRevoked, rpctypes.ErrLeaseNotFound},
		"gone, and given up":  {ended, rpctypes.ErrLeaseNotFound, SessionRevoked, rpctypes.ErrLeaseNotFound},
		"given up":            {ended, context.Canceled, SessionCanceled, mine},
		"the client's end":    {t.Context(), etcdcall.ErrClosed, SessionCanceled, etcdcall.ErrClosed},
		"out of time":         {t.Context(), context.DeadlineExceeded, SessionExpired, errNotRenewed},
		"refused, by its end": {t.Context(), refused, SessionExpired, refused},
		"anything else":       {t.Context(), mine, SessionExpired, mine},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if reason, err := lost(test.ctx, test.err); reason != test.reason || !errors.Is(err, test.want) {
				t.Errorf("%v: %v", reason, err)
			}
		})
	}
}
