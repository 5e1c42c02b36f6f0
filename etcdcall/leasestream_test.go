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

// TestARefusalIsThatOfTheFirstLeaseWithoutAnAnswer: the others go on, each by one
// more renewal.
func TestARefusalIsThatOfTheFirstLeaseWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 600, answer: atOnce, refuse: 8}
		first := keepOn(t, s, time.Minute)
		synctest.Wait()
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
		if s.opened != 2 {
			t.Errorf("%d streams were opened, want 2", s.opened)
		}
	})
}

// TestAnAnswerToAnotherLeaseEndsTheStream: the answers come in the order of the
// requests.
func TestAnAnswerToAnotherLeaseEndsTheStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 600, answer: atOnce, misled: 1}
		k := keepOn(t, s, time.Minute)
		other := keepToo(t, k, 8)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s.opened != 2 || k.Until().IsZero() || other.Until().IsZero() {
			t.Errorf("%d streams were opened; the leases are held until %v and %v", s.opened, k.Until(), other.Until())
		}
	})
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
		"nothing was heard":  {nil, errSilent},
		"there is no leader": {func(context.Context) error { return rpctypes.ErrGRPCNoLeader }, rpctypes.ErrGRPCNoLeader},
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
			l.close()
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
