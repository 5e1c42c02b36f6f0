package check_test

import (
	"errors"
	"testing"
	"time"

	"github.com/reprise-go/reprise/integration/check"
)

// at makes an operation on one key that lasts from call to ret.
func at(call, ret int, op check.Op) check.Op {
	op.Key, op.Call, op.Return = "k", time.Duration(call), time.Duration(ret)
	return op
}

func get(v string) check.Op { return check.Op{Kind: check.Get, Got: v, Outcome: check.Applied} }

func put(v string, o check.Outcome) check.Op {
	return check.Op{Kind: check.Put, Value: v, Outcome: o}
}

func cas(from, to string, swapped bool, o check.Outcome) check.Op {
	return check.Op{Kind: check.CAS, Old: from, Value: to, Swapped: swapped, Outcome: o}
}

func TestLinearizableTellsLegalFromIllegal(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]struct {
		legal bool
		ops   []check.Op
	}{
		"nothing":                     {true, nil},
		"a read of what was put":      {true, []check.Op{at(0, 1, put("a", check.Applied)), at(2, 3, get("a"))}},
		"a read of nothing":           {true, []check.Op{at(0, 1, get(""))}},
		"a stale read":                {false, []check.Op{at(0, 1, put("a", check.Applied)), at(2, 3, put("b", check.Applied)), at(4, 5, get("a"))}},
		"a lost acknowledged write":   {false, []check.Op{at(0, 1, put("a", check.Applied)), at(2, 3, get(""))}},
		"a read out of nowhere":       {false, []check.Op{at(0, 1, get("x"))}},
		"overlapping reads may vary":  {true, []check.Op{at(0, 9, put("a", check.Applied)), at(1, 2, get("")), at(3, 4, get("a"))}},
		"time does not run backwards": {false, []check.Op{at(0, 9, put("a", check.Applied)), at(1, 2, get("a")), at(3, 4, get(""))}},
		"an unknown write may happen": {true, []check.Op{at(0, 1, put("a", check.Unknown)), at(2, 3, get("a"))}},
		"or never":                    {true, []check.Op{at(0, 1, put("a", check.Unknown)), at(2, 3, get(""))}},
		"or late":                     {true, []check.Op{at(0, 1, put("a", check.Unknown)), at(2, 3, get("")), at(4, 5, get("a"))}},
		"a write applied twice": {false, []check.Op{
			at(0, 9, put("a", check.Applied)), at(1, 2, get("a")), at(3, 4, put("b", check.Applied)),
			at(5, 6, get("b")), at(7, 8, get("a")),
		}},
		"an unknown write applied twice": {false, []check.Op{
			at(0, 1, put("a", check.Unknown)), at(2, 3, get("a")), at(3, 4, put("b", check.Applied)),
			at(5, 6, get("b")), at(7, 8, get("a")),
		}},
		"a write said not to have happened": {false, []check.Op{at(0, 1, put("a", check.NotApplied)), at(2, 3, get("a"))}},
		"a read without an answer":          {true, []check.Op{at(0, 1, check.Op{Kind: check.Get, Got: "x", Outcome: check.Unknown})}},
		"a delete":                          {true, []check.Op{at(0, 1, put("a", check.Applied)), at(2, 3, check.Op{Kind: check.Delete, Outcome: check.Applied}), at(4, 5, get(""))}},
		"a delete that did nothing":         {false, []check.Op{at(0, 1, put("a", check.Applied)), at(2, 3, check.Op{Kind: check.Delete, Outcome: check.Applied}), at(4, 5, get("a"))}},
		"a swap":                            {true, []check.Op{at(0, 1, cas("", "a", true, check.Applied)), at(2, 3, get("a"))}},
		"a swap of the wrong value":         {false, []check.Op{at(0, 1, put("b", check.Applied)), at(2, 3, cas("a", "c", true, check.Applied))}},
		"a swap refused for no reason":      {false, []check.Op{at(0, 1, put("a", check.Applied)), at(2, 3, cas("a", "c", false, check.Applied))}},
		"two winners of one swap":           {false, []check.Op{at(0, 5, cas("", "a", true, check.Applied)), at(0, 5, cas("", "b", true, check.Applied))}},
		"an unknown swap may have won":      {true, []check.Op{at(0, 1, cas("", "a", false, check.Unknown)), at(2, 3, get("a"))}},
		"an unknown kind of operation":      {false, []check.Op{at(0, 1, check.Op{Kind: 77, Outcome: check.Applied})}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := check.Linearizable(h.ops, time.Minute)
			var no *check.NotLinearizableError
			if h.legal && err != nil || !h.legal && !errors.As(err, &no) {
				t.Errorf("got %v, want legal %v", err, h.legal)
			}
		})
	}
}

func TestLinearizableJudgesEachKey(t *testing.T) {
	t.Parallel()
	bad := at(2, 3, get("a"))
	bad.Key = "other"
	err := check.Linearizable([]check.Op{at(0, 1, put("a", check.Applied)), bad}, time.Minute)
	var no *check.NotLinearizableError
	if !errors.As(err, &no) || no.Key != "other" || len(no.Ops) != 1 {
		t.Errorf("got %v, want the key named other", err)
	}
}

func TestLinearizableSaysWhenTimeIsUp(t *testing.T) {
	t.Parallel()
	if err := check.Linearizable([]check.Op{at(0, 1, get(""))}, 0); !errors.Is(err, check.ErrUndecided) {
		t.Errorf("got %v, want ErrUndecided", err)
	}
}

func TestHistoryKeepsTheOrderOfCalls(t *testing.T) {
	t.Parallel()
	var h check.History
	first := h.Begin(put("a", check.Unknown))
	second := h.Begin(get(""))
	second.End(func(op *check.Op) { op.Got = "a" })
	first.End(func(op *check.Op) { op.Outcome = check.Applied })
	ops := h.Ops()
	if len(ops) != 2 || ops[0].Got != "a" || ops[1].Outcome != check.Applied {
		t.Fatalf("got %+v", ops)
	}
	if ops[1].Call > ops[0].Call || ops[0].Call > ops[0].Return || ops[0].Return > ops[1].Return {
		t.Errorf("times out of order: %+v", ops)
	}
}
