package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A Hold is one time that a client held a lock or led an election, as the client
// saw it.
type Hold struct {
	// Holder names the client.
	Holder string
	// Token is the fencing token or term: the create revision of its key.
	Token int64
	// Shared says that others may hold the lock as well, if they share it too.
	// Such a hold needs no token.
	Shared bool
	// Revision is one at which the client was told that it held the lock.
	Revision int64
	// From is when the client began to believe that it held the lock, Until
	// when it ceased to.
	From, Until time.Time
}

// Exclusive says whether clients ever believed at the same time that they held
// the lock, unless all of them shared it, or held it alone with a token that was
// not greater than the one before. It compares times, so that the clients must
// have one clock.
func Exclusive(holds []Hold) error {
	holds = slices.SortedFunc(slices.Values(holds), func(a, b Hold) int { return a.From.Compare(b.From) })
	var (
		errs          []error
		alone, shared *Hold // of those before, the one that lasted longest
		last          *Hold // that was alone
	)
	for _, h := range holds {
		for _, before := range []*Hold{alone, shared} {
			if before != nil && (!before.Shared || !h.Shared) && h.From.Before(before.Until) {
				errs = append(errs, fmt.Errorf("check: %s held the lock with token %d for %v while %s held it with token %d",
					h.Holder, h.Token, before.Until.Sub(h.From), before.Holder, before.Token))
			}
		}
		longest := &alone
		if h.Shared {
			longest = &shared
		} else {
			if last != nil && h.Token <= last.Token {
				errs = append(errs, fmt.Errorf("check: %s held the lock with token %d after %s with token %d",
					h.Holder, h.Token, last.Holder, last.Token))
			}
			last = &h
		}
		if *longest == nil || h.Until.After((*longest).Until) {
			*longest = &h
		}
	}
	return errors.Join(errs...)
}

// Granted says whether the store bears the holds out: whether the oldest key with
// the prefix was, at the revision of each, the one that its token names.
func Granted(log *Log, prefix string, holds []Hold) error {
	holds = slices.SortedFunc(slices.Values(holds), func(a, b Hold) int { return cmp.Compare(a.Revision, b.Revision) })
	var errs []error
	q := queue{prefix: prefix, keys: make(map[string]int64)}
	next := 0
	for _, h := range holds {
		for next < len(log.Events) && log.Events[next].Kv.ModRevision <= h.Revision {
			q.apply(log.Events[next])
			next++
		}
		if head := q.head(); head != h.Token {
			errs = append(errs, fmt.Errorf("check: %s was told at revision %d that it held the lock with token %d, which %d did",
				h.Holder, h.Revision, h.Token, head))
		}
	}
	return errors.Join(errs...)
}

// Fenced says whether everything that was written to key was written by who held
// the lock with the prefix at that revision. What is written must be the token of
// the writer.
func Fenced(log *Log, prefix, key string) error {
	var errs []error
	q := queue{prefix: prefix, keys: make(map[string]int64)}
	for _, e := range log.Events {
		q.apply(e)
		if string(e.Kv.Key) != key || e.Type == clientv3.EventTypeDelete {
			continue
		}
		if head := q.head(); strconv.FormatInt(head, 10) != string(e.Kv.Value) {
			errs = append(errs, fmt.Errorf("check: token %s wrote at revision %d, when %d held the lock",
				e.Kv.Value, e.Kv.ModRevision, head))
		}
	}
	return errors.Join(errs...)
}

// Conserved says whether the numbers under a prefix had the same sum at every
// revision, from that of the first change on.
func Conserved(log *Log, prefix string, sum int) error {
	var errs []error
	total, values := 0, make(map[string]int)
	for i, e := range log.Events {
		key := string(e.Kv.Key)
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		n := 0
		if e.Type != clientv3.EventTypeDelete {
			var err error
			if n, err = strconv.Atoi(string(e.Kv.Value)); err != nil {
				return fmt.Errorf("check: %s at revision %d: %w", key, e.Kv.ModRevision, err)
			}
		}
		total += n - values[key]
		values[key] = n
		last := i+1 == len(log.Events) || log.Events[i+1].Kv.ModRevision != e.Kv.ModRevision
		if last && total != sum {
			errs = append(errs, fmt.Errorf("check: the sum was %d at revision %d, not %d", total, e.Kv.ModRevision, sum))
		}
	}
	return errors.Join(errs...)
}

// queue is the keys of those who hold a lock or wait for it.
type queue struct {
	prefix string
	keys   map[string]int64 // create revisions
}

func (q *queue) apply(e *clientv3.Event) {
	key := string(e.Kv.Key)
	switch {
	case !strings.HasPrefix(key, q.prefix):
	case e.Type == clientv3.EventTypeDelete:
		delete(q.keys, key)
	default:
		q.keys[key] = e.Kv.CreateRevision
	}
}

// head returns the create revision of the oldest key, or 0.
func (q *queue) head() int64 {
	head := int64(0)
	for _, create := range q.keys {
		if head == 0 || create < head {
			head = create
		}
	}
	return head
}
