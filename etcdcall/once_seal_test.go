package etcdcall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// isSeal reports whether a request is a seal or a fence.
func isSeal(r request) bool {
	txn, ok := r.msg.(*pb.TxnRequest)
	return ok && len(txn.GetSuccess()) == 1 && txn.GetCompare()[0].GetTarget() == pb.Compare_VALUE
}

// openThenRefused answers the first attempt to write a key with a failure that
// leaves the outcome open, though it was not applied, and the others with a
// refusal. What becomes of seals is up to seal.
func openThenRefused(key string, refusal error, seal func(after bool) error) func(request, bool) error {
	attempts := 0
	return func(r request, after bool) error {
		switch {
		case isSeal(r):
			return seal(after)
		case !isWriteOf(r, key) || after:
			return nil
		}
		if attempts++; attempts == 1 {
			return errBroken
		}
		return refusal
	}
}

// losingFirst loses the first answer.
func losingFirst() func(after bool) error {
	lost := false
	return func(after bool) error {
		if !after || lost {
			return nil
		}
		lost = true
		return errBroken
	}
}

func TestASealIsFinalAndFreesItsSlot(t *testing.T) {
	t.Parallel()
	for name, seal := range map[string]func(after bool) error{
		"answered":           func(bool) error { return nil },
		"its answer is lost": losingFirst(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
				s.setFault(openThenRefused("k", rpctypes.ErrGRPCPermissionDenied, seal))
				_, err := put(t.Context(), w, "k")
				if !errors.Is(err, rpctypes.ErrPermissionDenied) || OutcomeOf(err) != NotApplied {
					t.Errorf("got %v (%v), want PermissionDenied, not applied", err, OutcomeOf(err))
				}
				s.setFault(nil)
				servesAgain(t, w, s)
			}, OnceSlots(1))
		})
	}
}

// servesAgain checks that the only slot of the only identity there was serves
// another call.
func servesAgain(t *testing.T, w *onceWriter, s *store) {
	t.Helper()
	if _, err := put(t.Context(), w, "again"); err != nil {
		t.Errorf("the slot does not serve again: %v", err)
	}
	if n := len(s.requests(pb.Lease_LeaseGrant_FullMethodName)); n != 1 {
		t.Errorf("%d identities, want one", n)
	}
}

// A request that was refused for what the store held at that moment could get
// through later.
func TestARefusalThatMayPassIsSealed(t *testing.T) {
	t.Parallel()
	for _, refusal := range []error{rpctypes.ErrGRPCLeaseNotFound, rpctypes.ErrGRPCKeyNotFound} {
		inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
			var delayed *pb.TxnRequest
			s.setFault(func(r request, _ bool) error {
				if !isWriteOf(r, "k") {
					return nil
				}
				delayed = r.msg.(*pb.TxnRequest)
				return refusal
			})
			_, err := put(t.Context(), w, "k")
			if !errors.Is(err, rpctypes.Error(refusal)) || OutcomeOf(err) != NotApplied {
				t.Errorf("got %v (%v), want %v, not applied", err, OutcomeOf(err), refusal)
			}
			s.setFault(nil)
			if _, err := s.Txn(t.Context(), delayed); err != nil || s.get("k") != nil {
				t.Errorf("%v: a copy got through: %v, %v", refusal, s.get("k"), err)
			}
			servesAgain(t, w, s)
		}, OnceSlots(1))
	}
}

func TestASealThatFailsLeavesTheOutcomeOpen(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		seal error
		lost bool
	}{
		"no answer":        {errHang, false},
		"no lease":         {rpctypes.ErrGRPCLeaseNotFound, true},
		"no permission":    {rpctypes.ErrGRPCPermissionDenied, false},
		"nothing but this": {errBroken, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
				s.setFault(func(r request, _ bool) error {
					switch {
					case isSeal(r):
						return tc.seal
					case isWriteOf(r, "k"):
						return rpctypes.ErrGRPCLeaseNotFound
					}
					return nil
				})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := put(ctx, w, "k")
				if OutcomeOf(err) != Unknown || errors.Is(err, ErrIdentityLost) != tc.lost {
					t.Errorf("got %v (%v), want an unknown outcome, identity lost: %v", err, OutcomeOf(err), tc.lost)
				}
			})
		})
	}
}

func TestASlotThatCannotBeReadLeavesTheOutcomeOpen(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		if _, err := put(t.Context(), w, "warm"); err != nil {
			t.Fatal(err)
		}
		s.setFault(func(r request, _ bool) error {
			if r.method == pb.KV_Range_FullMethodName {
				return errHang
			}
			return nil
		})
		s.mu.Lock()
		delete(s.keys, string(w.current.Load().slots[0].key))
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := put(ctx, w, "k"); OutcomeOf(err) != Unknown {
			t.Errorf("got %v (%v), want an unknown outcome", err, OutcomeOf(err))
		}
	}, OnceSlots(1))
}

func TestEveryEndOfACallFreesItsSlot(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(request, bool) error{
		"recovered": losing("k", 1),
		"never sent": func(r request, _ bool) error {
			if isWriteOf(r, "k") {
				return rpctypes.ErrGRPCNoLeader
			}
			return nil
		},
		"refused": func(r request, _ bool) error {
			if isWriteOf(r, "k") {
				return rpctypes.ErrGRPCPermissionDenied
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
				s.setFault(fault)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := put(ctx, w, "k"); err != nil && OutcomeOf(err) != NotApplied {
					t.Errorf("got %v (%v)", err, OutcomeOf(err))
				}
				s.setFault(nil)
				servesAgain(t, w, s)
			}, OnceSlots(1))
		})
	}
}

// abandon leaves an attempt open whose slot is fenced under the faults.
func abandon(t *testing.T, w *onceWriter, s *store, fence func(after bool) error) {
	t.Helper()
	if _, err := put(t.Context(), w, "warm"); err != nil {
		t.Fatal(err)
	}
	s.setFault(func(r request, after bool) error {
		switch {
		case isSeal(r):
			return fence(after)
		case isWriteOf(r, "k"):
			return errHang
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := put(ctx, w, "k"); OutcomeOf(err) != Unknown {
		t.Fatalf("got %v, want an unknown outcome", err)
	}
}

func TestAFenceWhoseAnswerWasLostIsAFence(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		abandon(t, w, s, losingFirst())
		servesAgain(t, w, s)
	}, OnceSlots(1))
}

func TestASlotWhoseFenceFailsServesNobodyUntilAFenceSucceeds(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		abandon(t, w, s, func(bool) error { return rpctypes.ErrGRPCNoSpace })
		began := time.Now()
		if _, err := put(t.Context(), w, "b"); !errors.Is(err, errNoSlot) || OutcomeOf(err) != NotApplied {
			t.Errorf("got %v, want no slot: the only one is retired", err)
		}
		if waited := time.Since(began); waited != DefaultMaxElapsed {
			t.Errorf("without a deadline it waited %v", waited)
		}
		fences := slices.DeleteFunc(s.requests(pb.KV_Txn_FullMethodName), func(r request) bool { return !isSeal(r) })
		if n := len(fences); n < 2 || n > 5 {
			t.Errorf("%d fences in a minute, want one for each renewal", n)
		}
		s.setFault(nil)
		servesAgain(t, w, s)
	}, OnceSlots(1))
}

func TestAnIdentityIsLostWithTheSlotThatAFenceMisses(t *testing.T) {
	t.Parallel()
	for name, fence := range map[string]func(s *store, slot string) error{
		"the slot is gone": func(s *store, slot string) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.keys, slot)
			return nil
		},
		"the lease is gone": func(*store, string) error { return rpctypes.ErrGRPCLeaseNotFound },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
				abandon(t, w, s, func(after bool) error {
					if after {
						return nil
					}
					return fence(s, string(w.current.Load().slots[0].key))
				})
				if _, err := put(t.Context(), w, "again"); err != nil {
					t.Errorf("the next write: %v", err)
				}
				if n := len(s.requests(pb.Lease_LeaseGrant_FullMethodName)); n != 2 {
					t.Errorf("%d identities, want two", n)
				}
			}, OnceSlots(1))
		})
	}
}

// What the slot holds is no answer while an attempt can still be applied.
func TestNoSpaceForTheSealLeavesAnOpenAttemptOpen(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
		s.setFault(openThenRefused("k", rpctypes.ErrGRPCNoSpace, func(bool) error { return rpctypes.ErrGRPCNoSpace }))
		_, err := put(t.Context(), w, "k")
		if _, ambiguous := errors.AsType[*AmbiguousError](err); !ambiguous || !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Errorf("got %v (%v), want NoSpace of unknown outcome", err, OutcomeOf(err))
		}
	})
}

// recordOf is the value of a slot, see docs/exactly-once.md.
func recordOf(seq uint64, mark byte) []byte { return fmt.Appendf(nil, "%016x%c", seq, mark) }

// A slot that is not what the call left there tells nothing about the call.
func TestARefusalIsNotBelievedIfTheSlotIsNotTheCalls(t *testing.T) {
	t.Parallel()
	for name, meddle := range map[string]func(s *store, slot string){
		"deleted":   func(s *store, slot string) { delete(s.keys, slot) },
		"overtaken": func(s *store, slot string) { s.keys[slot].Value = recordOf(99, 't') },
		"forged":    func(s *store, slot string) { s.keys[slot].Value = recordOf(2, 'e') },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
				if _, err := put(t.Context(), w, "warm"); err != nil {
					t.Fatal(err)
				}
				slot := string(w.current.Load().slots[0].key)
				s.setFault(openThenRefused("k", rpctypes.ErrGRPCPermissionDenied, func(after bool) error {
					if !after {
						s.mu.Lock()
						defer s.mu.Unlock()
						meddle(s, slot)
					}
					return nil
				}))
				if _, err := put(t.Context(), w, "k"); !errors.Is(err, ErrIdentityLost) || OutcomeOf(err) != Unknown {
					t.Errorf("got %v (%v), want ErrIdentityLost of unknown outcome", err, OutcomeOf(err))
				}
			}, OnceSlots(1))
		})
	}
}

func TestACallMovesToANewIdentityUntilItIsLostTooOften(t *testing.T) {
	t.Parallel()
	for _, losses := range []int{1, identityTries - 1, identityTries} {
		inBubble(t, func(t *testing.T, w *onceWriter, s *store) {
			lost := 0
			s.setFault(func(r request, after bool) error {
				if !isWriteOf(r, "k") || after || lost == losses {
					return nil
				}
				lost++
				w.current.Load().lose()
				return rpctypes.ErrGRPCNoLeader // not applied, and tried again
			})
			_, err := put(t.Context(), w, "k")
			if losses < identityTries {
				if err != nil || s.get("k").GetVersion() != 1 {
					t.Errorf("after %d losses: %v, the store has %v", losses, err, s.get("k"))
				}
			} else if OutcomeOf(err) != NotApplied || s.get("k") != nil {
				t.Errorf("after %d losses: %v (%v), the store has %v", losses, err, OutcomeOf(err), s.get("k"))
			}
		})
	}
}
