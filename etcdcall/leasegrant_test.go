package etcdcall

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestAGrantThatWasDoneBeforeTellsTheWholeTimeOfTheLease(t *testing.T) {
	t.Parallel()
	left := &pb.LeaseTimeToLiveResponse{Header: &pb.ResponseHeader{Revision: 7}, TTL: 41, GrantedTTL: 60}
	var asked, looked int64
	s := startScripted(t, func(_ context.Context, method string, n int, req any) (any, error) {
		switch {
		case method == pb.Lease_LeaseTimeToLive_FullMethodName:
			looked = req.(*pb.LeaseTimeToLiveRequest).ID
			return left, nil
		case n == 1:
			asked = req.(*pb.LeaseGrantRequest).ID
			return nil, status.Error(codes.Unavailable, "reset")
		default:
			return nil, rpctypes.ErrGRPCLeaseExist
		}
	})
	r, err := s.client(t).Grant(within5s(t), 60)
	if err != nil || int64(r.ID) != asked || looked != asked || r.TTL != 60 || r.GetRevision() != 7 || r.Error != "" {
		t.Errorf("got %+v, %v; asked for lease %x and looked for %x", r, err, asked, looked)
	}
}

// TestALeaseInItsLastSecondConfirmsItsGrant: the server rounds down what is left.
func TestALeaseInItsLastSecondConfirmsItsGrant(t *testing.T) {
	t.Parallel()
	s := startScripted(t, afterFailures(pb.Lease_LeaseGrant_FullMethodName, reads{
		pb.Lease_LeaseTimeToLive_FullMethodName: &pb.LeaseTimeToLiveResponse{Header: &pb.ResponseHeader{}, TTL: 0, GrantedTTL: 60},
	}, status.Error(codes.Unavailable, "reset"), rpctypes.ErrGRPCLeaseExist))
	if r, err := s.client(t).Grant(within5s(t), 60); err != nil || r.TTL != 60 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestARevocationThatWasDoneBeforeHasAnEmptyHeader(t *testing.T) {
	t.Parallel()
	s := startScripted(t, afterFailures(pb.Lease_LeaseRevoke_FullMethodName, nil,
		status.Error(codes.Unavailable, "reset"), rpctypes.ErrGRPCLeaseNotFound))
	if r, err := s.client(t).Revoke(within5s(t), 7); err != nil || r.Header == nil || r.Header.Revision != 0 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestTheKeysOfALeaseAreAskedFor(t *testing.T) {
	t.Parallel()
	s := startScripted(t, func(_ context.Context, _ string, _ int, req any) (any, error) {
		r := &pb.LeaseTimeToLiveResponse{Header: &pb.ResponseHeader{}, TTL: 1}
		if req.(*pb.LeaseTimeToLiveRequest).Keys {
			r.Keys = [][]byte{[]byte("key")}
		}
		return r, nil
	})
	cli := s.client(t)
	bare, err := cli.TimeToLive(within5s(t), 7)
	full, err2 := cli.TimeToLive(within5s(t), 7, clientv3.WithAttachedKeys())
	if err != nil || err2 != nil || len(bare.Keys) != 0 || len(full.Keys) != 1 {
		t.Errorf("got %v and %v; %v, %v", bare, full, err, err2)
	}
}

// TestNothingButALeaseThatExistsConfirmsItsGrant: each refusal comes after an
// attempt of unknown outcome.
func TestNothingButALeaseThatExistsConfirmsItsGrant(t *testing.T) {
	t.Parallel()
	there := &pb.LeaseTimeToLiveResponse{Header: &pb.ResponseHeader{}, TTL: 41, GrantedTTL: 60}
	for name, test := range map[string]struct {
		refusal error
		look    any
		looks   int
	}{
		"the refusal is another":     {rpctypes.ErrGRPCPermissionDenied, there, 0},
		"nobody may look":            {rpctypes.ErrGRPCLeaseExist, rpctypes.ErrGRPCPermissionDenied, 1},
		"it expired or never was it": {rpctypes.ErrGRPCLeaseExist, &pb.LeaseTimeToLiveResponse{Header: &pb.ResponseHeader{}, TTL: -1}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startScripted(t, afterFailures(pb.Lease_LeaseGrant_FullMethodName, reads{pb.Lease_LeaseTimeToLive_FullMethodName: test.look},
				status.Error(codes.Unavailable, "reset"), test.refusal))
			r, err := s.client(t).Grant(within5s(t), 60)
			if ambiguous, ok := errors.AsType[*AmbiguousError](err); !ok || ambiguous.Method != pb.Lease_LeaseGrant_FullMethodName || r != nil {
				t.Errorf("got %v, %v", r, err)
			}
			if n := s.count(pb.Lease_LeaseTimeToLive_FullMethodName); n != test.looks {
				t.Errorf("looked for the lease %d times, want %d", n, test.looks)
			}
		})
	}
}

// TestAnIDThatWasChosenIsGranted: clientv3 leaves the choice to what lies below
// it; who uses that directly may have chosen.
func TestAnIDThatWasChosenIsGranted(t *testing.T) {
	t.Parallel()
	s := startScripted(t, func(_ context.Context, _ string, _ int, req any) (any, error) {
		r := req.(*pb.LeaseGrantRequest)
		return &pb.LeaseGrantResponse{Header: &pb.ResponseHeader{}, ID: r.ID, TTL: r.TTL}, nil
	})
	cli := s.client(t)
	stub := newLeaseStub(&policy{settings: newSettings(nil), cli: cli}, cli.ActiveConnection())
	for _, id := range []int64{1, 77} {
		if r, err := stub.LeaseGrant(within5s(t), &pb.LeaseGrantRequest{ID: id, TTL: 5}); err != nil || r.ID != id || r.TTL != 5 {
			t.Errorf("lease %d: got %v, %v", id, r, err)
		}
	}
}

// slowLease answers after a while.
type slowLease struct {
	clientv3.Lease
	after  time.Duration
	ttl    int64
	revoke error
}

// Grant implements clientv3.Lease.
func (l *slowLease) Grant(context.Context, int64) (*clientv3.LeaseGrantResponse, error) {
	time.Sleep(l.after)
	return &clientv3.LeaseGrantResponse{ID: 7, TTL: l.ttl}, nil
}

// Revoke implements clientv3.Lease.
func (l *slowLease) Revoke(context.Context, clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	time.Sleep(l.after)
	return nil, l.revoke
}

// slowLeaseOn returns a Lease whose unary calls take 300 ms. The renewals of its
// keepers are answered as renewals says, that the lease is gone.
func slowLeaseOn(t *testing.T, renewals func(n int) (time.Duration, bool)) *lease {
	t.Helper()
	const after = 300 * time.Millisecond
	once := &renewalServer{ttl: 20, answer: func(int) (time.Duration, bool) { return after, true }}
	l := leaseOn(t, &renewalServer{answer: renewals}, once)
	l.calls.(*slowLease).after = after
	return l
}

// leaseOn returns a Lease whose keepers ask one server, and KeepAliveOnce another.
func leaseOn(t *testing.T, keepers, once *renewalServer) *lease {
	t.Helper()
	l := &lease{keeping: newKeeping(&policy{settings: newSettings(nil), cli: &clientv3.Client{}}, once), calls: &slowLease{ttl: 20}}
	l.mux.remote = keepers
	t.Cleanup(l.mux.close)
	return l
}

// TestAUnaryCallTellsAKeeperFromWhenItsLeaseIsHeld: that is from when the call
// was made, before the keeper began or after it.
func TestAUnaryCallTellsAKeeperFromWhenItsLeaseIsHeld(t *testing.T) {
	t.Parallel()
	// The server grants more than it is asked for.
	grant := func(l *lease) error { return second(l.Grant(context.Background(), 5)) }
	renew := func(l *lease) error { return second(l.KeepAliveOnce(context.Background(), 7)) }
	nothing := func(*lease) error { return nil }
	for name, test := range map[string]struct {
		before, while func(*lease) error
	}{
		"granted before":                   {grant, nothing},
		"renewed before":                   {renew, nothing},
		"renewed while it is kept":         {nothing, renew},
		"granted before and renewed later": {grant, renew},
	} {
		synctest.Test(t, func(t *testing.T) {
			l, sent := slowLeaseOn(t, never), time.Now()
			err := test.before(l)
			k, keepErr := KeepLease(t.Context(), l, 7)
			if err != nil || keepErr != nil {
				t.Fatal(err, keepErr)
			}
			time.Sleep(time.Second)
			again := time.Now()
			if err := test.while(l); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(again) {
				sent = again
			}
			want := sent.Add(19 * time.Second)
			if !k.Until().Equal(want) || k.TTL() != 20*time.Second {
				t.Fatalf("%s: held for %v from the call on, with TTL %v; want 19s of 20s", name, k.Until().Sub(sent), k.TTL())
			}
			<-k.Done()
			if lost, ok := errors.AsType[*LeaseError](k.Err()); !ok || lost.Reason != LeaseExpired || !time.Now().Equal(want) {
				t.Errorf("%s: it ended %v from the time it was held until, with %v", name, time.Since(want), k.Err())
			}
		})
	}
}
