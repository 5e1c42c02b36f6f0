package oncemodel

import (
	"strings"
	"testing"
)

// One client makes two calls in a row, under one kind of trouble each.
var (
	expiring = oneClient("a lease expires", budget{ticks: 2, duplicates: 1, expiries: 1})
	refused  = oneClient("the user's lease comes and goes", budget{duplicates: 1, userLease: 2})
	// No duplicates: that a refusal speaks for all copies is taken on trust.
	full     = oneClient("the store runs out of space", budget{space: 2})
	meddling = oneClient("an outsider deletes a slot", budget{duplicates: 1, outsider: 1, crashes: 1})
)

func oneClient(name string, left budget) bounds {
	return bounds{
		name:       name,
		owner:      [maxCalls + 1]uint8{0, 1, 1},
		withLease:  [maxCalls + 1]bool{1: true},
		tries:      2,
		setupTries: 1,
		left:       left,
	}
}

// oneCallTwice has room for a copy of the creation and one of the write.
var oneCallTwice = func() bounds {
	b := meddling
	b.owner[2] = 0
	b.left.duplicates = 2
	return b
}()

// oneCall leaves nothing to do after a refusal.
var oneCall = func() bounds {
	b := refused
	b.owner[2] = 0
	return b
}()

// twoClients: calls of two clients on one key, with fewer faults.
var twoClients = bounds{
	name:       "two clients",
	owner:      [maxCalls + 1]uint8{0, 1, 2},
	tries:      2,
	setupTries: 1,
	left:       budget{duplicates: 1},
}

func TestTheProtocolHasNoViolation(t *testing.T) {
	t.Parallel()
	for _, b := range []bounds{expiring, refused, full, meddling, twoClients} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			m := explore(variant{}, b)
			if m.violation != "" {
				t.Fatalf("%s:\n%s", m.violation, m.run())
			}
			t.Logf("%d states", len(m.queue))
			if !m.recovered || !m.reached[acked] || !m.reached[unknown] {
				t.Errorf("the search did not reach what it is for: outcomes %v, recovered %v", m.reached, m.recovered)
			}
			for _, need := range []struct {
				when, ok bool
				what     string
			}{
				{b.left.expiries > 0, m.reached[lost] && m.reached[stopped], "an identity lost, a call stopped in time"},
				{b.left.userLease > 0, m.reached[notApplied], "a refusal"},
				{b.left.space > 0, m.settled, "a refusal that could not be sealed"},
				{b.left.crashes > 0, m.reached[crashed], "a crash"},
				{b.owner[2] == b.owner[1], m.fenced, "a fence"},
			} {
				if need.when && !need.ok {
					t.Errorf("the search did not reach %s: outcomes %v", need.what, m.reached)
				}
			}
		})
	}
}

func TestEveryRuleLeftOutIsFound(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		v    variant
		b    bounds
		want string
	}{
		{"completion record left out", variant{noRecord: true}, expiring, "applied twice"},
		{"slot not created before use", variant{slotNotPreCreated: true}, expiring, "a call was begun on an identity that was not there"},
		{"slot created whether it is there or not", variant{slotCreatedBlindly: true}, oneCallTwice, "applied twice"},
		{"missing slot taken for not applied", variant{missingTakenForNotApplied: true}, meddling, "reported as not applied"},
		{"slot created again after its loss", variant{slotRecreated: true}, meddling, "applied twice"},
		{"identity lease granted again under its id", variant{sameLeaseGrantedAgain: true}, expiring, "applied twice"},
		{"slot and number reused after an abandoned call", variant{reusedWithSameNumber: true}, expiring, "acknowledged"},
		{"slot reused before a higher number is in it", variant{reusedAtOnce: true}, expiring, "another can still take effect"},
		{"expiry judged from the answer's arrival", variant{expiryFromReceipt: true}, expiring, "identity that was not there"},
		{"lease kept past its expiry", variant{keptPastExpiry: true}, expiring, "identity that was not there"},
		{"replay of the latest state", variant{replayOfLatest: true}, twoClients, "wrong result"},
		{"replay ignores the call's own writes", variant{replayIgnoresOwnWrites: true}, expiring, "wrong result"},
		{"identity's missing lease taken for the user's", variant{leaseErrorTakenForUsers: true}, oneCall, "reported as not applied"},
		{"slot believed with an attempt under way", variant{slotBelievedTooEarly: true}, full, "applied after it was reported as not applied"},
		{"user's missing lease taken for the identity's", variant{leaseErrorTakenForOurs: true}, refused, "an identity that lives was called lost"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := explore(tc.v, tc.b)
			if m.violation == "" {
				t.Fatalf("no violation in %d states", len(m.queue))
			}
			if !strings.Contains(m.violation, tc.want) {
				t.Errorf("found %q, want %q", m.violation, tc.want)
			}
			t.Logf("%s after %d states:\n%s", m.violation, len(m.queue), m.run())
		})
	}
}
