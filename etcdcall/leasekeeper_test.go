package etcdcall

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/reprise-go/reprise"
)

// renewalServer answers each renewal after a while.
type renewalServer struct {
	pb.LeaseClient
	ttl    int64
	answer func(n int) (after time.Duration, ok bool) // of the n-th renewal, from 1 on
	open   func(ctx context.Context) error            // opens a stream; nil opens it at once
	refuse int64                                      // the lease whose renewal ends the stream
	misled int64                                      // added to the id in the next answer
	again  bool                                       // the next answer is given twice
	slow   time.Duration                              // how long a stream takes to end
	takes  time.Duration                              // how long sending a request takes
	sent   []time.Time
	opened int
}

func (s *renewalServer) LeaseKeepAlive(ctx context.Context, _ ...grpc.CallOption) (grpc.BidiStreamingClient[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse], error) {
	s.opened++
	if s.open != nil {
		if err := s.open(ctx); err != nil {
			return nil, err
		}
	}
	return &renewalStream{ctx: ctx, server: s, answers: make(chan renewalAnswer, 100)}, nil
}

// renewalStream answers in the order of the requests.
type renewalStream struct {
	grpc.ClientStream
	ctx     context.Context
	server  *renewalServer
	answers chan renewalAnswer
	over    bool // nothing is answered any more
}

type renewalAnswer struct {
	resp *pb.LeaseKeepAliveResponse
	err  error
	at   time.Time
}

func (s *renewalStream) Send(req *pb.LeaseKeepAliveRequest) error {
	if s.over {
		return nil
	}
	if req.ID == s.server.refuse {
		s.over = true
		s.answers <- renewalAnswer{err: rpctypes.ErrGRPCPermissionDenied, at: time.Now()}
		return nil
	}
	s.server.sent = append(s.server.sent, time.Now())
	after, ok := s.server.answer(len(s.server.sent))
	if !ok {
		return nil
	}
	resp := &pb.LeaseKeepAliveResponse{Header: &pb.ResponseHeader{Revision: 3}, ID: req.ID + s.server.misled, TTL: s.server.ttl}
	s.answers <- renewalAnswer{resp: resp, at: time.Now().Add(after)}
	if s.server.again {
		s.answers <- renewalAnswer{resp: resp, at: time.Now().Add(after)}
	}
	s.server.misled, s.server.again = 0, false
	time.Sleep(s.server.takes)
	return nil
}

func (s *renewalStream) Recv() (*pb.LeaseKeepAliveResponse, error) {
	var answer renewalAnswer
	select {
	case answer = <-s.answers:
	case <-s.ctx.Done():
		time.Sleep(s.server.slow)
		return nil, s.ctx.Err()
	}
	wait := time.NewTimer(time.Until(answer.at))
	defer wait.Stop()
	select {
	case <-wait.C:
		return answer.resp, answer.err
	case <-s.ctx.Done():
		time.Sleep(s.server.slow)
		return nil, s.ctx.Err()
	}
}

// keepOn keeps a lease on s.
func keepOn(t *testing.T, s *renewalServer, check time.Duration, opts ...KeepOption) *LeaseKeeper {
	t.Helper()
	m := newLeaseMux(s, leaseSettings{
		backoff: reprise.Backoff{Initial: 10 * time.Millisecond, Multiplier: 2, Jitter: reprise.JitterNone}, check: check, silence: 4 * time.Second,
	}, nil)
	t.Cleanup(m.close)
	k, err := KeepLease(t.Context(), &lease{keeping: &keeping{mux: m}}, 7, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestALeaseIsHeldFromWhenItsRenewalWasSentMinusAMargin(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ttl    int64
		margin time.Duration
	}{{1, 100 * time.Millisecond}, {5, 500 * time.Millisecond}, {10, time.Second}, {600, time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			const late = 300 * time.Millisecond
			s := &renewalServer{ttl: test.ttl, answer: func(n int) (time.Duration, bool) { return late, n == 1 }}
			k := keepOn(t, s, time.Hour)
			time.Sleep(late)
			synctest.Wait()
			want := s.sent[0].Add(time.Duration(test.ttl)*time.Second - test.margin)
			if !k.Until().Equal(want) {
				t.Errorf("TTL %d: held for %v from the renewal on, want %v", test.ttl, k.Until().Sub(s.sent[0]), want.Sub(s.sent[0]))
			}
			<-k.Done() // no other renewal is answered
			if lost, ok := errors.AsType[*LeaseError](k.Err()); !ok || lost.Reason != LeaseExpired || !time.Now().Equal(want) || !lost.Until.Equal(want) {
				t.Errorf("TTL %d: it ended %v from the time it was held until, with %v", test.ttl, time.Since(want), k.Err())
			}
		})
	}
}

func TestALeaseIsRenewedAfterAThirdOfItsTimeOrTheCheck(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ttl         int64
		check, want time.Duration
	}{{3, time.Hour, time.Second}, {3, 2 * time.Second, time.Second}, {60, 3 * time.Second, 3 * time.Second}, {60, 20 * time.Millisecond, 20 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			s := &renewalServer{ttl: test.ttl, answer: func(int) (time.Duration, bool) { return time.Millisecond, true }}
			k := keepOn(t, s, test.check)
			time.Sleep(10*test.want + test.want/2)
			k.Stop()
			synctest.Wait()
			if len(s.sent) != 11 || s.opened != 1 {
				t.Fatalf("TTL %d, check %v: %d renewals on %d streams, want 11 on one", test.ttl, test.check, len(s.sent), s.opened)
			}
			for i := 1; i < len(s.sent); i++ {
				if got := s.sent[i].Sub(s.sent[i-1]); got != test.want {
					t.Errorf("TTL %d, check %v: renewed after %v, want %v", test.ttl, test.check, got, test.want)
				}
			}
		})
	}
}

// TestARenewalThatIsNotAnsweredIsMadeAgainOnAnotherStream: the answer to the
// second renewal never comes.
func TestARenewalThatIsNotAnsweredIsMadeAgainOnAnotherStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 3, answer: func(n int) (time.Duration, bool) { return 0, n != 2 }}
		k := keepOn(t, s, time.Hour)
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		if s.opened != 2 || len(s.sent) != 3 || k.Err() != nil {
			t.Fatalf("%d renewals on %d streams, %v; want 3 on 2", len(s.sent), s.opened, k.Err())
		}
		// Each waits for a third of the time of the lease.
		if got := s.sent[2].Sub(s.sent[1]); got < time.Second || got > 1100*time.Millisecond {
			t.Errorf("made again after %v, want a second and a pause", got)
		}
		if want := s.sent[2].Add(2700 * time.Millisecond); !k.Until().Equal(want) {
			t.Errorf("held until %v after the third renewal, want 2.7s", k.Until().Sub(s.sent[2]))
		}
	})
}

// never is the answer of a server that gives none.
func never(int) (time.Duration, bool) { return 0, false }

func TestGrantedAtTellsFromWhenALeaseIsHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sent := time.Now()
		time.Sleep(2 * time.Second)
		k := keepOn(t, &renewalServer{answer: never}, time.Hour, nil, GrantedAt(sent, 10*time.Second))
		want := sent.Add(9 * time.Second)
		if !k.Until().Equal(want) || k.TTL() != 10*time.Second {
			t.Fatalf("held for %v from the grant on, with TTL %v; want 9s of 10s", k.Until().Sub(sent), k.TTL())
		}
		// What another keeper knows of an earlier time takes nothing back.
		other, err := k.mux.keep(t.Context(), 7, keepSettings{sent: sent, ttl: 5 * time.Second}, nil, nil)
		if err != nil || !other.Until().Equal(want) {
			t.Fatalf("with what is known from earlier, held for %v from the grant on, %v", other.Until().Sub(sent), err)
		}
		for _, k := range []*LeaseKeeper{k, other} {
			<-k.Done()
			if lost, ok := errors.AsType[*LeaseError](k.Err()); !ok || lost.Reason != LeaseExpired || !time.Now().Equal(want) {
				t.Errorf("it ended %v from the time it was held until, with %v", time.Since(want), k.Err())
			}
		}
	})
}

// TestAStreamThatDoesNotOpenIsGivenUp: opening has as much time as an answer.
func TestAStreamThatDoesNotOpenIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts   []KeepOption
		others int64 // leases of which nothing is known
		after  time.Duration
	}{
		"nothing is known of the lease": {nil, 0, 4 * time.Second},
		"a long lease":                  {[]KeepOption{grantedNow(time.Hour)}, 0, 4 * time.Second},
		"a short lease":                 {[]KeepOption{grantedNow(6 * time.Second)}, 0, 2 * time.Second},
		"a short lease among others":    {[]KeepOption{grantedNow(6 * time.Second)}, 10, 2 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			var opened []time.Time
			s := &renewalServer{ttl: 600, answer: func(int) (time.Duration, bool) { return time.Millisecond, true }}
			s.open = func(ctx context.Context) error {
				if opened = append(opened, time.Now()); len(opened) > 2 {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}
			k := keepOn(t, s, time.Hour, test.opts...)
			for i := range test.others {
				keepToo(t, k, 10+i)
			}
			time.Sleep(2*test.after + time.Second)
			synctest.Wait()
			if len(opened) != 3 || k.Until().Before(time.Now().Add(590*time.Second)) {
				t.Fatalf("%s: %d streams were opened, held for %v", name, len(opened), time.Until(k.Until()))
			}
			for i := 1; i < 3; i++ { // and a pause
				if got := opened[i].Sub(opened[i-1]); got < test.after || got > test.after+100*time.Millisecond {
					t.Errorf("%s: given up after %v, want %v", name, got, test.after)
				}
			}
		})
	}
}

// grantedNow is GrantedAt the time of the bubble in which it is applied.
func grantedNow(ttl time.Duration) KeepOption {
	return func(s *keepSettings) { GrantedAt(time.Now(), ttl)(s) }
}
