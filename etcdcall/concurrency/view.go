package concurrency

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	v3 "go.etcd.io/etcd/client/v3"
)

// view is the STM of one run of the user's function.
type view struct {
	*readSet

	ctx context.Context
	t   *transaction
	// memory is what may be recalled, nil if nothing may.
	memory *Memory
	writes map[string]write
	order  []string // the keys of writes, in the order of the user's calls
	failed error    // why a read has ended the run
}

type write struct {
	val string
	op  v3.Op
	// plain says that the key has the value val after the write, whatever it
	// had before.
	plain bool
}

func newView(ctx context.Context, t *transaction, m *Memory) *view {
	return &view{readSet: newReadSet(), ctx: ctx, t: t, memory: m, writes: make(map[string]write)}
}

// begin reads what is known to be wanted: what the attempt before this one has
// read, else what the caller has named.
func (v *view) begin() error {
	l := v.t.learned
	switch {
	case l == nil && v.memory != nil && v.memory.knows(v.t.options.prefetch):
		return nil
	case l == nil:
		return v.load(v.t.options.prefetch)
	case l.now || time.Since(l.at) < v.t.cost:
		v.known, v.rev, v.header = maps.Clone(l.items), l.header.Revision, l.header
		return nil
	default:
		return v.load(slices.Collect(maps.Keys(l.items)))
	}
}

// Get implements STM.
func (v *view) Get(keys ...string) string {
	if len(keys) == 0 {
		return ""
	}
	v.want(slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
		_, written := v.writes[key]
		return written
	}))
	if w, ok := v.writes[keys[0]]; ok {
		return w.val
	}
	return v.read[keys[0]].value
}

// Put implements STM.
func (v *view) Put(key, val string, opts ...v3.OpOption) {
	// A value that the server takes over from before is given as none.
	v.write(key, write{val, v3.OpPut(key, val, opts...), val != "" || len(opts) == 0})
}

// Rev implements STM.
func (v *view) Rev(key string) int64 {
	v.want([]string{key})
	return v.read[key].mod
}

// Del implements STM.
func (v *view) Del(key string) { v.write(key, write{"", v3.OpDelete(key), true}) }

func (v *view) stm() {}

func (v *view) write(key string, w write) {
	if _, ok := v.writes[key]; !ok {
		v.order = append(v.order, key)
	}
	v.writes[key] = w
}

// want adds keys to what was read, and ends the user's function if that fails.
func (v *view) want(keys []string) {
	missing := slices.DeleteFunc(keys, v.take)
	if len(missing) == 0 {
		return
	}
	if v.failed = v.load(missing); v.failed != nil {
		runtime.Goexit()
	}
	for _, key := range missing {
		v.take(key)
	}
}

// take adds to what was read what is known or remembered of a key, if the store
// had both at one moment. It reports whether the key is among what was read now.
func (v *view) take(key string) bool {
	if _, ok := v.read[key]; ok {
		return true
	}
	it, known := v.known[key]
	recalled := false
	if !known {
		it, recalled = v.memory.recall(key)
	}
	if !known && !recalled || v.pinned() && !v.fits(it) {
		return false
	}
	v.add(key, it)
	v.recalled = v.recalled || recalled
	return true
}

// load reads keys in one request: at the revision of what was read before, if
// the isolation level asks for one snapshot. That read may be made by any server
// that has the revision; one that lags behind is not asked twice. What was
// recalled is confirmed by the same request.
func (v *view) load(keys []string) error {
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	if v.recalled {
		return v.confirm(keys)
	}
	if len(keys) == 0 {
		return nil
	}
	resp, err := repeatable(v.ctx, v.t.attempts, func(ctx context.Context) (*v3.TxnResponse, error) {
		if !v.pinned() || v.rev == 0 {
			return v.t.client.Txn(ctx).Then(gets(keys)...).Commit()
		}
		at := v3.WithRev(v.rev)
		resp, err := v.t.client.Txn(ctx).Then(gets(keys, at, v3.WithSerializable())...).Commit()
		if errors.Is(err, rpctypes.ErrFutureRev) {
			return v.t.client.Txn(ctx).Then(gets(keys, at)...).Commit()
		}
		return resp, err
	})
	if errors.Is(err, rpctypes.ErrCompacted) {
		return errConflict // the snapshot is too old to go on with
	}
	if err != nil {
		return err
	}
	rev := resp.Header.Revision
	switch {
	case v.pinned() && v.rev != 0:
		rev = v.rev
	case v.empty():
		v.rev = rev
	case v.rev != rev:
		v.rev = 0
	}
	v.header = resp.Header
	v.learn(answers(keys, resp, rev))
	return nil
}

// confirm asks whether all that was read is true at one moment, and reads more
// keys at that same moment. If it is not, the answer brings what is.
func (v *view) confirm(more []string) error {
	keys := slices.Collect(maps.Keys(v.read))
	all := slices.Concat(keys, more)
	began := time.Now()
	resp, err := repeatable(v.ctx, v.t.attempts, func(ctx context.Context) (*v3.TxnResponse, error) {
		return v.t.client.Txn(ctx).If(v.guards()...).Then(gets(more)...).Else(gets(all)...).Commit()
	})
	if err != nil {
		return err
	}
	if !resp.Succeeded {
		return v.outdated(all, resp, began)
	}
	v.readSet.confirm(resp.Header)
	v.t.remember(resp.Header, v.read)
	v.learn(answers(more, resp, resp.Header.Revision))
	return nil
}

// learn takes in what a server has told.
func (v *view) learn(items map[string]item) {
	maps.Copy(v.known, items)
	v.t.remember(v.header, items)
}

// pinned reports whether everything is read at one revision.
func (v *view) pinned() bool {
	return v.t.options.iso == SerializableSnapshot || v.t.options.iso == Serializable
}

// oneSnapshot reports whether everything that was read was there at one moment,
// as a server has said since the transaction began.
func (v *view) oneSnapshot() bool { return !v.recalled && (v.rev != 0 || v.empty()) }

// conditions are the comparisons under which the transaction may commit, one for
// each key at most.
func (v *view) conditions() []v3.Cmp {
	if v.t.options.iso == ReadCommitted {
		return nil
	}
	guards := v.guards()
	if v.t.options.iso != SerializableSnapshot || len(v.read) == 0 {
		return guards
	}
	for _, key := range v.order {
		if _, read := v.read[key]; !read {
			guards = append(guards, v3.Compare(v3.ModRevision(key), "<", v.last+1))
		}
	}
	return guards
}

func (v *view) puts() []v3.Op {
	ops := make([]v3.Op, len(v.order))
	for i, key := range v.order {
		ops[i] = v.writes[key].op
	}
	return ops
}
