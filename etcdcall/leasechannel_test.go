package etcdcall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestTheChannelOfALeaseTellsOfItsRenewals(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*lease, context.CancelCauseFunc){
		"its context ends":     func(_ *lease, cancel context.CancelCauseFunc) { cancel(errors.New("the reason")) },
		"the lease is revoked": func(l *lease, _ context.CancelCauseFunc) { _, _ = l.Revoke(context.Background(), 7) },
		"the lease is gone":    func(l *lease, _ context.CancelCauseFunc) { l.mux.gone(7, LeaseGone) },
		"the client is closed": func(l *lease, _ context.CancelCauseFunc) { l.mux.close() },
	} {
		synctest.Test(t, func(t *testing.T) {
			l := leaseOn(t, &renewalServer{ttl: 3, answer: atOnce}, nil)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			channel, err := l.KeepAlive(ctx, 7)
			if err != nil || cap(channel) != clientv3.LeaseResponseChSize {
				t.Fatalf("%s: a channel for %d responses, %v", name, cap(channel), err)
			}
			for range 3 {
				if r := <-channel; r.ID != 7 || r.TTL != 3 || r.GetRevision() != 3 {
					t.Errorf("%s: got %+v", name, r)
				}
			}
			end(l, cancel)
			if r, open := <-channel; open {
				t.Errorf("%s: after that came %+v", name, r)
			}
		})
	}
}

func TestAChannelThatNobodyReadsLosesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := leaseOn(t, &renewalServer{ttl: 3, answer: atOnce}, nil)
		channel, err := l.KeepAlive(t.Context(), 7)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(channel) != cap(channel) {
			t.Errorf("%d responses of %d wait", len(channel), cap(channel))
		}
		l.mux.mu.Lock()
		defer l.mux.mu.Unlock()
		if kept := l.mux.leases[7]; kept == nil || !kept.until.After(time.Now()) {
			t.Errorf("the lease is not renewed: %+v", kept)
		}
	})
}

// TestRenewingOnceIsRetriedAsARead: the first stream is of unknown outcome.
func TestRenewingOnceIsRetriedAsARead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &renewalServer{ttl: 20, answer: atOnce}
		l := leaseOn(t, nil, s)
		s.open = func(context.Context) error {
			if s.opened == 1 {
				return status.Error(codes.Unavailable, "reset")
			}
			return nil
		}
		r, err := l.KeepAliveOnce(t.Context(), 7)
		if err != nil || r.ID != 7 || r.TTL != 20 || r.GetRevision() != 3 || s.opened != 2 {
			t.Errorf("got %+v, %v on %d streams", r, err, s.opened)
		}
	})
}

func TestRenewingOnceSaysWhyNot(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		server func(*renewalServer)
		want   error
		lost   bool // what a keeper of the lease learns
	}{
		"it is gone":              {func(s *renewalServer) { s.ttl = 0 }, rpctypes.ErrLeaseNotFound, true},
		"a negative time is left": {func(s *renewalServer) { s.ttl = -1 }, rpctypes.ErrLeaseNotFound, true},
		"it is refused":           {func(s *renewalServer) { s.refuse = 7 }, rpctypes.ErrPermissionDenied, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			once := &renewalServer{ttl: 20, answer: atOnce}
			test.server(once)
			l := leaseOn(t, &renewalServer{answer: never}, once)
			k, err := KeepLease(t.Context(), l, 7)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := l.KeepAliveOnce(t.Context(), 7); err != test.want || r != nil { //nolint:errorlint // == is promised
				t.Errorf("%s: got %+v, %v", name, r, err)
			}
			if lost := k.Err() != nil; lost != test.lost || lost && lostBy(t, k) != LeaseGone {
				t.Errorf("%s: the keeper ended with %v", name, k.Err())
			}
		})
	}
}

func TestALeaseErrorSaysWhatItWrapsAndWhy(t *testing.T) {
	t.Parallel()
	why := errors.New("the reason")
	for reason, word := range map[LeaseReason]string{
		LeaseExpired: "not renewed in time", LeaseGone: "not known to the server", LeaseRevoked: "revoked", LeaseRefused: "renewal refused", 9: "LeaseReason(9)",
	} {
		var notFound []error
		if reason == LeaseGone || reason == LeaseRevoked {
			notFound = []error{rpctypes.ErrLeaseNotFound}
		}
		for _, test := range []struct {
			err  error
			text string
			all  []error
		}{{nil, "", nil}, {why, ": the reason", []error{why}}} {
			e := &LeaseError{ID: 0xabc, Reason: reason, Err: test.err}
			if want := fmt.Sprintf("etcdcall: lease abc lost: %s%s", word, test.text); e.Error() != want {
				t.Errorf("got %q, want %q", e, want)
			}
			if want := slices.Concat(test.all, notFound); !slices.Equal(e.Unwrap(), want) {
				t.Errorf("%v wraps %v, want %v", e, e.Unwrap(), want)
			}
		}
	}
}

// hooks is a context that counts what waits for its end.
type hooks struct {
	context.Context
	over    chan struct{}
	waiting int
}

// Done implements context.Context.
func (h *hooks) Done() <-chan struct{} { return h.over }

// AfterFunc is what context.AfterFunc asks for.
func (h *hooks) AfterFunc(func()) (stop func() bool) {
	h.waiting++
	return func() bool { h.waiting--; return true }
}

func TestAKeeperThatHasEndedIsForgottenByItsContext(t *testing.T) {
	t.Parallel()
	l, h := slowLeaseOn(t, never), &hooks{Context: t.Context(), over: make(chan struct{})}
	k, err := KeepLease(h, l, 7)
	if err != nil || h.waiting != 1 {
		t.Fatalf("%d wait for the end of the context, %v", h.waiting, err)
	}
	k.Stop()
	if h.waiting != 0 {
		t.Errorf("%d wait for the end of the context", h.waiting)
	}
}
