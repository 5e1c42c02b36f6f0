package etcdcall

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/internal/patience"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

var errBroken = status.Error(codes.Unavailable, "the connection broke")

// inBubble runs a test of a writer on a store in virtual time.
func inBubble(t *testing.T, test func(t *testing.T, w *onceWriter, s *store), opts ...OnceOption) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		set := newSettings([]Option{WithExactlyOnce("once/", opts...)})
		p := &policy{settings: set, patience: patience.New(set.attemptTimeout), cli: &clientv3.Client{}}
		w := newOnceWriter(p, s, s, newBlindWriter(p, storeConn{s: s}))
		defer w.close()
		test(t, w, s)
	})
}

// storeConn is a connection to a store, for stubs that write.
type storeConn struct {
	grpc.ClientConnInterface
	s *store
}

// Invoke implements grpc.ClientConnInterface.
func (c storeConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	var resp proto.Message
	var err error
	switch req := args.(type) {
	case *pb.PutRequest:
		resp, err = c.s.Put(ctx, req, opts...)
	case *pb.DeleteRangeRequest:
		resp, err = c.s.DeleteRange(ctx, req, opts...)
	case *pb.TxnRequest:
		resp, err = c.s.Txn(ctx, req, opts...)
	default:
		return status.Error(codes.Unimplemented, method)
	}
	if err == nil {
		proto.Merge(reply.(proto.Message), resp)
	}
	return err
}

// put writes a key and returns the revision.
func put(ctx context.Context, w *onceWriter, key string) (int64, error) {
	resp, err := w.put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte("v")})
	return resp.GetHeader().GetRevision(), err
}

// isWriteOf reports whether a request is a guarded write of a key.
func isWriteOf(r request, key string) bool {
	txn, ok := r.msg.(*pb.TxnRequest)
	if !ok {
		return false
	}
	for _, op := range txn.GetSuccess() {
		if string(op.GetRequestPut().GetKey()) == key {
			return true
		}
	}
	return false
}

// losing makes the answers to the first n writes of a key get lost.
func losing(key string, n int) func(request, bool) error {
	return func(r request, after bool) error {
		if after && isWriteOf(r, key) && n > 0 {
			n--
			return errBroken
		}
		return nil
	}
}

func TestALostAnswerIsRecovered(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		lose := losing("k", 2)
		s.setFault(func(r request, after bool) error {
			err := lose(r, after)
			if err != nil {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.change(func() {}) // somebody else writes meanwhile
			}
			return err
		})
		rev, err := put(t.Context(), w, "k")
		if err != nil {
			t.Fatal(err)
		}
		if kv := s.get("k"); kv.GetVersion() != 1 || kv.GetModRevision() != rev {
			t.Errorf("told revision %d, the store has %v", rev, kv)
		}
	})
}

func TestAnAttemptWithoutAnAnswerEndsAndIsRepeated(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
			hung := 0
			s.setFault(func(r request, handled bool) error {
				if isWriteOf(r, "k") && handled == after && hung < 2 {
					hung++
					return errHang
				}
				return nil
			})
			began := time.Now()
			if _, err := put(t.Context(), w, "k"); err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			least, most := 2*DefaultAttemptTimeout, 2*(DefaultAttemptTimeout+time.Second)
			if took < least || took > most || s.get("k").GetVersion() != 1 {
				t.Errorf("took %v, the store has %v", took, s.get("k"))
			}
		})
	}
}

func TestASuccessIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		if _, err := put(t.Context(), w, "warm"); err != nil {
			t.Fatal(err)
		}
		before := len(s.seen)
		if _, err := put(t.Context(), w, "k"); err != nil {
			t.Fatal(err)
		}
		if n := len(s.seen) - before; n != 1 {
			t.Errorf("%d requests, want one", n)
		}
	})
}

func TestARefusalAfterAnOpenAttemptIsSettled(t *testing.T) {
	t.Parallel()
	denied := rpctypes.ErrGRPCPermissionDenied
	for _, tc := range []struct {
		name  string
		first bool // whether the first attempt, of which no answer came, was applied
	}{{"applied", true}, {"not applied", false}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
				attempts := 0
				var delayed *pb.TxnRequest
				s.setFault(func(r request, after bool) error {
					if !isWriteOf(r, "k") {
						return nil
					}
					if !after {
						attempts++
					}
					switch {
					case attempts == 1 && after == tc.first:
						delayed = r.msg.(*pb.TxnRequest)
						return errBroken
					case attempts == 2:
						return denied
					}
					return nil
				})
				_, err := put(t.Context(), w, "k")
				s.setFault(nil)
				if tc.first {
					if err != nil {
						t.Errorf("got %v for a write that was applied", err)
					}
					return
				}
				if !errors.Is(err, rpctypes.ErrPermissionDenied) || OutcomeOf(err) != NotApplied {
					t.Errorf("got %v, want PermissionDenied, not applied", err)
				}
				if _, err := s.Txn(t.Context(), delayed); err != nil || s.get("k") != nil {
					t.Errorf("a write called not applied was applied later: %v, %v", s.get("k"), err)
				}
			})
		})
	}
}

func TestAnAbandonedCallRetiresItsSlotUntilItIsFenced(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		var delayed *pb.TxnRequest
		s.setFault(func(r request, after bool) error {
			if _, ok := r.msg.(*pb.TxnRequest); !ok || after || len(s.requests(pb.KV_Txn_FullMethodName)) < 2 {
				return nil
			}
			if isWriteOf(r, "a") {
				delayed = r.msg.(*pb.TxnRequest)
			}
			return errBroken
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var ambiguous *AmbiguousError
		if _, err := put(ctx, w, "a"); !errors.As(err, &ambiguous) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want an AmbiguousError of the deadline", err)
		}
		time.Sleep(time.Second)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := put(ctx, w, "b"); !errors.Is(err, errNoSlot) || OutcomeOf(err) != NotApplied {
			t.Errorf("got %v, want no slot: the only one is retired", err)
		}
		s.setFault(nil)
		if _, err := put(t.Context(), w, "c"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Txn(t.Context(), delayed); err != nil || s.get("a") != nil {
			t.Errorf("the abandoned write took effect after its slot served another: %v, %v", s.get("a"), err)
		}
	}, OnceSlots(1))
}

func TestNoSpaceIsKnownNotToBeApplied(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		if _, err := put(t.Context(), w, "warm"); err != nil {
			t.Fatal(err)
		}
		s.setFault(func(r request, after bool) error {
			if r.method == pb.KV_Txn_FullMethodName {
				return rpctypes.ErrGRPCNoSpace
			}
			return nil
		})
		_, err := put(t.Context(), w, "k")
		if !errors.Is(err, rpctypes.ErrNoSpace) || OutcomeOf(err) != NotApplied {
			t.Errorf("got %v (%v), want NoSpace, not applied", err, OutcomeOf(err))
		}
		s.setFault(func(r request, after bool) error {
			if after && isWriteOf(r, "k") || !after && r.method == pb.KV_Txn_FullMethodName && !isWriteOf(r, "k") {
				return rpctypes.ErrGRPCNoSpace
			}
			return nil
		})
		if rev, err := put(t.Context(), w, "k"); err != nil || s.get("k").GetModRevision() != rev {
			t.Errorf("applied and then out of space: revision %d, %v", rev, err)
		}
	})
}

// TestTheBranchOfTheWriteBeforeTellsNothingOfThisOne: a slot holds the record of
// the write that it served before until that of the next is put.
func TestTheBranchOfTheWriteBeforeTellsNothingOfThisOne(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		if _, err := put(t.Context(), w, "warm"); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		s.keys[string(w.current.Load().slots[0].key)].Value = recordOf(1, 'e') // as a transaction leaves it
		s.mu.Unlock()
		s.setFault(func(r request, _ bool) error {
			if r.method == pb.KV_Txn_FullMethodName {
				return rpctypes.ErrGRPCNoSpace
			}
			return nil
		})
		if _, err := put(t.Context(), w, "k"); !errors.Is(err, rpctypes.ErrNoSpace) || OutcomeOf(err) != NotApplied {
			t.Errorf("got %v (%v), want NoSpace, not applied", err, OutcomeOf(err))
		}
		s.setFault(nil)
		servesAgain(t, w, s)
	}, OnceSlots(1))
}

func TestExactlyOnceCanBeSwitchedForACall(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ctx  func(context.Context) context.Context
		opts []OnceOption
		once bool
	}{
		{func(ctx context.Context) context.Context { return ctx }, nil, true},
		{func(ctx context.Context) context.Context { return ExactlyOnce(ctx, false) }, nil, false},
		{func(ctx context.Context) context.Context { return ctx }, []OnceOption{OnceOnRequest()}, false},
		{func(ctx context.Context) context.Context { return ExactlyOnce(ctx, true) }, []OnceOption{OnceOnRequest()}, true},
	} {
		inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
			if _, err := put(tc.ctx(t.Context()), w, "k"); err != nil {
				t.Fatal(err)
			}
			if once := len(s.requests(pb.KV_Put_FullMethodName)) == 0; once != tc.once {
				t.Errorf("exactly once: %v, want %v", once, tc.once)
			}
		}, tc.opts...)
	}
}

func TestAnEmptyPrefixIsRefused(t *testing.T) {
	t.Parallel()
	_, err := New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}}, WithExactlyOnce(""))
	if e, ok := errors.AsType[*ConfigurationError](err); !ok || err.Error() != "etcdcall: "+e.Problem || strings.Contains(e.Problem, "Configure") {
		t.Errorf("got %v, want a ConfigurationError and nothing else", err)
	}
}

func TestAWriteWithoutAContextIsRefused(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, _ *store) {
		var wrong *reprise.ArgumentError
		if _, err := put(nil, w, "k"); !errors.As(err, &wrong) { //nolint:staticcheck // it is what is tested
			t.Errorf("got %v, want an ArgumentError", err)
		}
	})
}
