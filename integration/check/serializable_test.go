package check_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/integration/check"
)

// story is a history of transactions on a store, told one by one.
type story struct {
	log  check.Log
	txns []check.Txn
}

// txn adds a transaction that has read the keys' versions of some revisions, and
// written other keys at revision rev. Its values are named after the revisions.
func (s *story) txn(rev int64, reads map[string]int64, writes ...string) *story {
	t := check.Txn{Name: "T" + strconv.Itoa(len(s.txns)+1), Revision: rev, Reads: make(map[string]check.Version), Writes: make(map[string]string)}
	for key, at := range reads {
		v := check.Version{Revision: at}
		if at > 0 {
			v.Value = strconv.FormatInt(at, 10)
		}
		t.Reads[key] = v
	}
	for _, key := range writes {
		t.Writes[key] = strconv.FormatInt(rev, 10)
	}
	s.log.Events = append(s.log.Events, s.changes(rev, writes)...)
	s.txns = append(s.txns, t)
	return s
}

func (s *story) changes(rev int64, keys []string) (events []*clientv3.Event) {
	for _, key := range keys {
		events = append(events, wrote(key, strconv.FormatInt(rev, 10), rev, rev))
	}
	return events
}

// unheard adds a transaction whose client does not know that it has committed.
func (s *story) unheard(rev int64, writes ...string) *story {
	s.log.Events = append(s.log.Events, s.changes(rev, writes)...)
	return s
}

// between dates the last transaction.
func (s *story) between(began, ended int64) *story {
	t := &s.txns[len(s.txns)-1]
	t.Began, t.Ended = time.Unix(began, 0), time.Unix(ended, 0)
	return s
}

func (s *story) backwards() *story {
	slices.Reverse(s.txns)
	return s
}

func (s *story) check() error { return check.Serializable(&s.log, s.txns) }

type seen = map[string]int64

func TestSerializableTellsAnomalies(t *testing.T) {
	t.Parallel()
	begin := func() *story { return new(story).txn(2, nil, "x", "y") }
	for name, test := range map[string]struct {
		story *story
		fine  bool
	}{
		"nothing":                           {&story{}, true},
		"one after another":                 {begin().txn(3, seen{"x": 2}, "x").txn(4, seen{"x": 3, "y": 2}, "y"), true},
		"told out of order":                 {begin().txn(3, seen{"x": 2}, "x").backwards(), true},
		"a reader of the past":              {begin().txn(3, seen{"x": 2}, "x").txn(0, seen{"x": 2, "y": 2}), true},
		"a reader of nothing":               {begin().txn(0, seen{"z": 0}).txn(3, nil, "z"), true},
		"it reads what it writes":           {begin().txn(3, seen{"x": 2, "y": 2}, "x", "y"), true},
		"two that do not touch":             {begin().txn(3, seen{"x": 2}, "x").txn(4, seen{"y": 2}, "y"), true},
		"a reader beside an unheard writer": {begin().unheard(3, "x").txn(0, seen{"x": 3, "y": 2}), true},
		"a lost update":                     {begin().txn(3, seen{"x": 2}, "x").txn(4, seen{"x": 2}, "x"), false},
		"a lost update of a creation":       {begin().txn(3, seen{"z": 0}, "z").txn(4, seen{"z": 0}, "z"), false},
		"a lost update by who is not heard": {begin().unheard(3, "x").txn(4, seen{"x": 2}, "x"), false},
		"write skew":                        {begin().txn(3, seen{"x": 2, "y": 2}, "x").txn(4, seen{"x": 2, "y": 2}, "y"), false},
		"read skew":                         {begin().txn(3, nil, "x", "y").txn(0, seen{"x": 2, "y": 3}), false},
		"half of who is not heard":          {begin().unheard(3, "x", "y").txn(0, seen{"x": 3, "y": 2}), false},
		"a long fork":                       {begin().txn(3, nil, "x").txn(4, nil, "y").txn(0, seen{"x": 3, "y": 2}).txn(0, seen{"x": 2, "y": 4}), false},
		"a reader of what comes":            {begin().txn(3, seen{"x": 4}, "x").txn(4, seen{"x": 3}, "x"), false},
		"a stale reader": {
			begin().between(1, 2).txn(3, seen{"x": 2}, "x").between(3, 4).txn(0, seen{"x": 2}).between(5, 6), false,
		},
		"a reader of the past that began in time": {
			begin().between(1, 2).txn(3, seen{"x": 2}, "x").between(3, 5).txn(0, seen{"x": 2}).between(5, 6), true,
		},
		"stale by way of two others": {
			begin().between(1, 2).txn(3, seen{"x": 2}, "x").between(3, 4).txn(0, seen{"y": 2}).between(5, 6).txn(0, seen{"x": 2}).between(7, 8), false,
		},
	} {
		err := test.story.check()
		no, is := errors.AsType[*check.NotSerializableError](err)
		if test.fine && err != nil || !test.fine && (!is || len(no.Cycle) < 2) {
			t.Errorf("%s: %v, want serializable %v", name, err, test.fine)
		}
	}
}

func TestSerializableRefusesWhatTheLogDoesNotBearOut(t *testing.T) {
	t.Parallel()
	begin := func() *story { return new(story).txn(2, nil, "x") }
	lost := begin()
	lost.log.Events = nil
	other := begin()
	other.txns[0].Writes["x"] = "5"
	invented := begin().txn(0, seen{"x": 2})
	invented.txns[1].Reads["x"] = check.Version{Revision: 2, Value: "5"}
	twice := begin()
	twice.txns = append(twice.txns, twice.txns[0])
	deleted := begin().txn(0, seen{"x": 0})
	deleted.log.Events = append(deleted.log.Events, removed("x", 3))
	tombstone := begin().txn(0, seen{"x": 3})
	tombstone.log.Events = append(tombstone.log.Events, removed("x", 3))
	for name, test := range map[string]struct {
		story     *story
		undecided bool
	}{
		"an acknowledged commit that is lost": {lost, false},
		"another value":                       {other, false},
		"a value out of nowhere":              {invented, false},
		"a version out of nowhere":            {begin().txn(0, seen{"x": 7}), false},
		"a key out of nowhere":                {begin().txn(0, seen{"z": 7}), false},
		"one commit acknowledged to two":      {twice, false},
		"the value of a deletion":             {tombstone, false},
		"a key that comes and goes":           {deleted, true},
	} {
		err := test.story.check()
		if _, is := errors.AsType[*check.NotSerializableError](err); err == nil || is || errors.Is(err, check.ErrUndecided) != test.undecided {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzSerializable compares the graph with a search of all orders.
func FuzzSerializable(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint8(seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, n uint8) {
		compareWithSearch(t, rand.New(rand.NewPCG(seed, 0)), 1+int(n%5))
	})
}

func TestSerializableAgreesWithASearchOfAllOrders(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	fine := 0
	for n := range 5000 {
		if compareWithSearch(t, r, 1+n%5) {
			fine++
		}
	}
	if fine < 500 || fine > 4500 {
		t.Errorf("%d of 5000 were serializable, which shows too little", fine)
	}
}

// compareWithSearch judges a random history of n transactions in both ways.
func compareWithSearch(t *testing.T, r *rand.Rand, n int) bool {
	t.Helper()
	s, versions := new(story), map[string][]int64{"a": {0}, "b": {0}, "c": {0}}
	plans := make([][]string, n)
	revs := make([]int64, n)
	for i := range n {
		for _, key := range []string{"a", "b", "c"} {
			if r.IntN(3) == 0 {
				revs[i] = int64(i + 2)
				plans[i] = append(plans[i], key)
				versions[key] = append(versions[key], revs[i])
			}
		}
	}
	for i := range n {
		reads := make(seen)
		for _, key := range []string{"a", "b", "c"} {
			if v := versions[key][r.IntN(len(versions[key]))]; r.IntN(2) == 0 && v != revs[i] {
				reads[key] = v
			}
		}
		s.txn(revs[i], reads, plans[i]...)
		if r.IntN(2) == 0 {
			began := int64(i) + r.Int64N(4)
			s.between(began, began+r.Int64N(4))
		}
	}
	err := s.check()
	if _, is := errors.AsType[*check.NotSerializableError](err); err != nil && !is {
		t.Fatalf("%v: %+v", err, s.txns)
	}
	if possible := anyOrder(s.txns, nil); possible != (err == nil) {
		t.Fatalf("an order exists: %v, but: %v\n%s", possible, err, fmt.Sprintf("%+v", s.txns))
	}
	return err == nil
}

// anyOrder reports whether the rest of the transactions can come after those done.
func anyOrder(rest, done []check.Txn) bool {
	if len(rest) == 0 {
		return true
	}
	for i, t := range rest {
		others := slices.Delete(slices.Clone(rest), i, i+1)
		if mayCome(t, done, others) && anyOrder(others, append(slices.Clone(done), t)) {
			return true
		}
	}
	return false
}

func mayCome(t check.Txn, done, after []check.Txn) bool {
	state := make(map[string]int64)
	for _, d := range done {
		for key := range d.Writes {
			state[key] = d.Revision
		}
	}
	for key, v := range t.Reads {
		if state[key] != v.Revision {
			return false
		}
	}
	for key := range t.Writes {
		if state[key] > t.Revision {
			return false
		}
	}
	return !slices.ContainsFunc(after, func(a check.Txn) bool {
		return !a.Ended.IsZero() && !t.Began.IsZero() && a.Ended.Before(t.Began)
	})
}
