package etcdcall

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/reprise-go/reprise/etcdcall/internal/ending"
)

// atOnce is the answer of a server that is near.
func atOnce(int) (time.Duration, bool) { return time.Millisecond, true }

// keepToo keeps another lease beside that of k.
func keepToo(t *testing.T, k *LeaseKeeper, id int64) *LeaseKeeper {
	t.Helper()
	other, err := k.mux.keep(t.Context(), id, keepSettings{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return other
}

func TestALeaseThatComesLaterIsRenewedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 600, answer: atOnce}
		k := keepOn(t, s, time.Minute)
		time.Sleep(10 * time.Second)
		later := keepToo(t, k, 8)
		time.Sleep(time.Second)
		synctest.Wait()
		if later.Until().IsZero() || s.opened != 1 {
			t.Errorf("held until %v, on %d streams", later.Until(), s.opened)
		}
	})
}

// TestOneStreamEndsBeforeTheNextBegins: they share what was asked.
func TestOneStreamEndsBeforeTheNextBegins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 600, answer: atOnce, slow: time.Second}
		var opened []time.Time
		s.open = func(context.Context) error { opened = append(opened, time.Now()); return nil }
		k := keepOn(t, s, time.Minute)
		time.Sleep(10 * time.Second)
		ended := time.Now()
		k.Stop()
		again := keepToo(t, k, 7)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(opened) != 2 || opened[1].Sub(ended) != s.slow || again.Until().IsZero() {
			t.Errorf("the streams were opened at %v, the first was to end at %v", opened, ended)
		}
		closing := time.Now()
		k.mux.close()
		if took := time.Since(closing); took != s.slow || !errors.Is(again.Err(), ErrClosed) {
			t.Errorf("closed within %v, and the keeper ended with %v", took, again.Err())
		}
	})
}

// TestWhatWasAskedOnAnEarlierStreamIsForgotten: the renewal of a lease that is not
// kept any more was not answered.
func TestWhatWasAskedOnAnEarlierStreamIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 600, answer: func(n int) (time.Duration, bool) { return time.Millisecond, n != 1 }}
		k := keepOn(t, s, time.Minute)
		time.Sleep(time.Second)
		k.Stop()
		again := keepToo(t, k, 7)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s.opened != 2 || len(s.sent) != 2 || again.Until().IsZero() {
			t.Errorf("%d renewals on %d streams, held until %v; want 2 on 2", len(s.sent), s.opened, again.Until())
		}
	})
}

// TestTheSenderOfAStreamEndsBeforeTheNextBegins: it is still sending when the
// answer to another lease ends the stream.
func TestTheSenderOfAStreamEndsBeforeTheNextBegins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 600, answer: atOnce, misled: 1, takes: time.Second}
		var opened []time.Time
		s.open = func(context.Context) error { opened = append(opened, time.Now()); return nil }
		keepOn(t, s, time.Minute)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(opened) != 2 || opened[1].Sub(opened[0]) != s.takes+10*time.Millisecond {
			t.Errorf("the streams were opened at %v, and the first sent for %v", opened, s.takes)
		}
	})
}

func TestALeaseThatComesWhileAnotherIsSentIsRenewedAfterIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 600, answer: atOnce, takes: time.Second}
		k := keepOn(t, s, time.Minute)
		time.Sleep(s.takes / 2)
		later := keepToo(t, k, 8)
		time.Sleep(2 * s.takes)
		synctest.Wait()
		if len(s.sent) != 2 || s.sent[1].Sub(s.sent[0]) != s.takes || later.Until().IsZero() {
			t.Errorf("sent at %v, and held until %v", s.sent, later.Until())
		}
	})
}

func TestEachOfManyLeasesIsRenewedInItsTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const leases, check = 8, 10 * time.Second
		s := &renewalServer{ttl: 600, answer: atOnce}
		k := keepOn(t, s, check)
		for id := range int64(leases - 1) {
			time.Sleep(time.Second)
			keepToo(t, k, 8+id)
		}
		time.Sleep(2 * check)
		synctest.Wait()
		for i, at := range s.sent {
			if want := time.Duration(i/leases)*check + time.Duration(i%leases)*time.Second; at.Sub(s.sent[0]) != want {
				t.Errorf("renewal %d was sent after %v, want %v", i, at.Sub(s.sent[0]), want)
			}
		}
		if len(s.sent) < 2*leases {
			t.Errorf("%d renewals", len(s.sent))
		}
	})
}

// TestARefusalIsThatOfTheFirstLeaseWithoutAnAnswer: the others go on, each by one
// more renewal.
func TestARefusalIsThatOfTheFirstLeaseWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 600, answer: atOnce, refuse: 8}
		first := keepOn(t, s, time.Minute)
		time.Sleep(time.Second)
		synctest.Wait()
		before := first.Until()
		refused := keepToo(t, first, 8)
		last := keepToo(t, first, 9)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if lost, ok := errors.AsType[*LeaseError](refused.Err()); !ok || lost.Reason != LeaseRefused || !errors.Is(lost, rpctypes.ErrPermissionDenied) {
			t.Errorf("the refused one ended with %v", refused.Err())
		}
		for _, k := range []*LeaseKeeper{first, last} {
			if k.Err() != nil || k.Until().IsZero() {
				t.Errorf("lease %d ended with %v", k.ID(), k.Err())
			}
		}
		if s.opened != 2 || !first.Until().After(before) {
			t.Errorf("%d streams were opened, want 2, and the first lease was held until %v and then until %v", s.opened, before, first.Until())
		}
	})
}

// TestAnAnswerThatWasNotDueEndsTheStream: the answers come in the order of the
// requests.
func TestAnAnswerThatWasNotDueEndsTheStream(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*renewalServer{
		"it is that of another lease": {ttl: 600, answer: atOnce, misled: 1},
		"nothing was asked":           {ttl: 600, answer: atOnce, again: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			k := keepOn(t, s, time.Minute)
			time.Sleep(time.Second)
			synctest.Wait()
			other := keepToo(t, k, 8)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if s.opened != 2 || k.Until().IsZero() || other.Until().IsZero() {
				t.Errorf("%s: %d streams were opened; the leases are held until %v and %v", name, s.opened, k.Until(), other.Until())
			}
		})
	}
}

func TestAnAlarmThatCameTooEarlyLeavesTheStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 600, answer: func(int) (time.Duration, bool) { return 3 * time.Second, true }}
		k := keepOn(t, s, time.Hour)
		time.Sleep(2 * time.Second)
		k.mux.answerOverdue(k.lease)
		time.Sleep(2 * time.Second)
		k.mux.answerOverdue(k.lease) // after the answer
		time.Sleep(time.Second)
		synctest.Wait()
		if s.opened != 1 || k.Until().IsZero() {
			t.Errorf("%d streams were opened, held until %v", s.opened, k.Until())
		}
	})
}

// TestThePausesBetweenStreamsBeginSmallAfterOneThatWorked, and grow as long as
// none does.
func TestThePausesBetweenStreamsBeginSmallAfterOneThatWorked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 600, answer: func(n int) (time.Duration, bool) { return time.Millisecond, n != 2 }}
		var opened []time.Time
		s.open = func(context.Context) error {
			if opened = append(opened, time.Now()); len(opened) == 4 || len(opened) > 7 {
				return nil
			}
			return rpctypes.ErrGRPCNoLeader
		}
		keepOn(t, s, 10*time.Second)
		time.Sleep(time.Minute)
		synctest.Wait()
		var pauses []time.Duration
		for i := 1; i < len(opened); i++ {
			pauses = append(pauses, opened[i].Sub(opened[i-1]))
		}
		const ms = time.Millisecond
		want := []time.Duration{10 * ms, 20 * ms, 40 * ms, 14*time.Second + 10*ms, 20 * ms, 40 * ms, 80 * ms}
		if !slices.Equal(pauses, want) {
			t.Errorf("paused for %v, want %v", pauses, want)
		}
	})
}

func TestAnExpiredLeaseSaysWhyItWasNotRenewed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		open func(context.Context) error
		want error
	}{
		"nothing was heard":  {nil, ending.ErrSilent},
		"there is no leader": {func(context.Context) error { return rpctypes.ErrGRPCNoLeader }, rpctypes.ErrGRPCNoLeader},
		"nothing opens":      {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, ending.ErrSilent},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &renewalServer{answer: never, open: test.open}
			k := keepOn(t, s, time.Hour, grantedNow(30*time.Second))
			if reason := lostBy(t, k); reason != LeaseExpired || !errors.Is(k.Err(), test.want) {
				t.Errorf("%s: it ended with %v", name, k.Err())
			}
		})
	}
}

// TestAnExpiredLeaseDoesNotBlameWhatPassed: the first stream broke, the second
// works, and the lease has too little time left to wait for an answer.
func TestAnExpiredLeaseDoesNotBlameWhatPassed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 600, answer: func(n int) (time.Duration, bool) { return time.Millisecond, n == 1 }}
		s.open = func(context.Context) error {
			if s.opened == 1 {
				return rpctypes.ErrGRPCNoLeader
			}
			return nil
		}
		k := keepOn(t, s, time.Minute)
		time.Sleep(time.Second)
		late, err := k.mux.keep(t.Context(), 8, keepSettings{sent: time.Now().Add(-58 * time.Second), ttl: time.Minute}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		<-late.Done()
		if lost, ok := errors.AsType[*LeaseError](late.Err()); !ok || lost.Reason != LeaseExpired || lost.Err != nil {
			t.Errorf("it ended with %v", late.Err())
		}
	})
}

func TestNoPauseBetweenStreamsIsLongerThanHalfASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var opened []time.Time
		l := leaseOn(t, &renewalServer{open: func(context.Context) error {
			opened = append(opened, time.Now())
			return rpctypes.ErrGRPCNoLeader
		}}, nil)
		k, err := KeepLease(t.Context(), l, 7)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		k.Stop()
		synctest.Wait()
		for i := 1; i < len(opened); i++ {
			if pause := opened[i].Sub(opened[i-1]); pause > 500*time.Millisecond {
				t.Errorf("paused for %v", pause)
			}
		}
	})
}

func TestGrantsAreRememberedUpToABound(t *testing.T) {
	t.Parallel()
	var g grants
	for id := range int64(3 * maxGrants) {
		g.add(id, time.Now(), time.Minute)
		g.add(id, time.Now(), time.Minute)
	}
	_, last := g.known[3*maxGrants-1]
	_, first := g.known[2*maxGrants]
	if len(g.known) != maxGrants || len(g.order) != maxGrants || !last || !first {
		t.Errorf("%d are remembered, with an order of %d; the latest among them: %v", len(g.known), len(g.order), last && first)
	}
}

func TestRenewalsAskForALeaderUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	for _, anyLeader := range []bool{false, true} {
		var asked []bool
		s := &renewalServer{ttl: 600, answer: atOnce, open: func(ctx context.Context) error {
			md, _ := metadata.FromOutgoingContext(ctx)
			asked = append(asked, slices.Equal(md[rpctypes.MetadataRequireLeaderKey], []string{rpctypes.MetadataHasLeader}))
			return nil
		}}
		synctest.Test(t, func(t *testing.T) {
			var opts []Option
			if anyLeader {
				opts = append(opts, WithoutRequireLeader())
			}
			l := &lease{keeping: newKeeping(&policy{settings: newSettings(opts), cli: &clientv3.Client{}}, s)}
			if _, err := l.KeepAliveOnce(t.Context(), 7); err != nil {
				t.Fatal(err)
			}
			if _, err := KeepLease(t.Context(), l, 7); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			l.mux.close()
		})
		if want := !anyLeader; !slices.Equal(asked, []bool{want, want}) {
			t.Errorf("without a leader %v: asked for one: %v", anyLeader, asked)
		}
	}
}

func TestTheSilenceOfWatchesIsThatOfRenewals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ set, want time.Duration }{{0, DefaultWatchSilence}, {time.Second, time.Second}} {
		set := newSettings([]Option{WithWatchSilence(test.set)})
		if got := set.lease().silence; got != test.want {
			t.Errorf("set to %v: got %v", test.set, got)
		}
	}
}

func TestALeaseCheckThatIsNotPositiveIsTheDefault(t *testing.T) {
	t.Parallel()
	for set, want := range map[time.Duration]time.Duration{-1: DefaultLeaseCheck, 0: DefaultLeaseCheck, 1: 1, time.Hour: time.Hour} {
		s := newSettings([]Option{WithLeaseCheck(set)})
		if got := s.lease().check; got != want {
			t.Errorf("set to %v: got %v", set, got)
		}
	}
}
