package concurrency

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	v3 "go.etcd.io/etcd/client/v3"
)

// view is the STM of one attempt.
type view struct {
	ctx    context.Context
	t      *transaction
	read   *snapshot
	writes map[string]write
	order  []string // the keys of writes, in the order of the user's calls
	failed error    // why a read has ended the attempt
}

type write struct {
	val string
	op  v3.Op
}

// snapshot is what was read.
type snapshot struct {
	// rev is the revision that all of it is of, or 0 if it was not read at one.
	rev    int64
	header *pb.ResponseHeader
	// kvs are nil for keys that do not exist.
	kvs map[string]*mvccpb.KeyValue
}

func newSnapshot(rev int64) *snapshot {
	return &snapshot{rev: rev, kvs: make(map[string]*mvccpb.KeyValue)}
}

func newView(ctx context.Context, t *transaction) *view {
	return &view{ctx: ctx, t: t, read: newSnapshot(0), writes: make(map[string]write)}
}

// begin reads what is known to be wanted.
func (v *view) begin() error {
	wanted := slices.Clone(v.t.options.prefetch)
	if l := v.t.learned; l != nil {
		if v.pinned() && time.Since(v.t.learnedAt) < v.t.cost {
			v.read = l
			return nil
		}
		for key := range l.kvs {
			wanted = append(wanted, key)
		}
	}
	return v.load(wanted)
}

// Get implements STM.
func (v *view) Get(keys ...string) string {
	if len(keys) == 0 {
		return ""
	}
	v.want(keys)
	if w, ok := v.writes[keys[0]]; ok {
		return w.val
	}
	return string(v.read.kvs[keys[0]].GetValue())
}

// Put implements STM.
func (v *view) Put(key, val string, opts ...v3.OpOption) {
	v.write(key, write{val, v3.OpPut(key, val, opts...)})
}

// Rev implements STM.
func (v *view) Rev(key string) int64 {
	if _, ok := v.read.kvs[key]; !ok {
		v.mustLoad([]string{key})
	}
	return v.read.kvs[key].GetModRevision()
}

// Del implements STM.
func (v *view) Del(key string) { v.write(key, write{"", v3.OpDelete(key)}) }

func (v *view) stm() {}

func (v *view) write(key string, w write) {
	if _, ok := v.writes[key]; !ok {
		v.order = append(v.order, key)
	}
	v.writes[key] = w
}

// want reads those of the keys that have been neither read nor written.
func (v *view) want(keys []string) {
	v.mustLoad(slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
		_, written := v.writes[key]
		return written
	}))
}

// mustLoad is load, and ends the user's function if that fails.
func (v *view) mustLoad(keys []string) {
	if v.failed = v.load(keys); v.failed != nil {
		runtime.Goexit()
	}
}

// load reads keys in one request: at the revision of what was read before, if
// the isolation level asks for one snapshot. That read may be made by any server
// that has the revision; one that lags behind is not asked twice.
func (v *view) load(keys []string) error {
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	keys = slices.DeleteFunc(keys, func(key string) bool {
		_, read := v.read.kvs[key]
		return read
	})
	if len(keys) == 0 {
		return nil
	}
	resp, err := repeatable(v.ctx, func(ctx context.Context) (*v3.TxnResponse, error) {
		if !v.pinned() || v.read.rev == 0 {
			return v.fetch(ctx, keys)
		}
		at := v3.WithRev(v.read.rev)
		resp, err := v.fetch(ctx, keys, at, v3.WithSerializable())
		if errors.Is(err, rpctypes.ErrFutureRev) {
			return v.fetch(ctx, keys, at)
		}
		return resp, err
	})
	if errors.Is(err, rpctypes.ErrCompacted) {
		return ErrConflict // the snapshot is too old to go on with
	}
	if err != nil {
		return err
	}
	if v.read.rev == 0 && len(v.read.kvs) == 0 {
		v.read.rev = resp.Header.Revision
	} else if !v.pinned() && v.read.rev != resp.Header.Revision {
		v.read.rev = 0
	}
	v.read.add(keys, resp)
	return nil
}

func (v *view) fetch(ctx context.Context, keys []string, opts ...v3.OpOption) (*v3.TxnResponse, error) {
	gets := make([]v3.Op, len(keys))
	for i, key := range keys {
		gets[i] = v3.OpGet(key, opts...)
	}
	return v.t.client.Txn(ctx).Then(gets...).Commit()
}

// pinned reports whether everything is read at one revision.
func (v *view) pinned() bool {
	return v.t.options.iso == SerializableSnapshot || v.t.options.iso == Serializable
}

// oneSnapshot reports whether everything that was read was there at one moment.
func (v *view) oneSnapshot() bool { return v.read.rev != 0 || len(v.read.kvs) == 0 }

// guards are the comparisons under which the transaction may commit, one for
// each key at most.
func (v *view) guards() []v3.Cmp {
	if v.t.options.iso == ReadCommitted {
		return nil
	}
	guards := make([]v3.Cmp, 0, len(v.read.kvs))
	for key, kv := range v.read.kvs {
		guards = append(guards, v3.Compare(v3.ModRevision(key), "=", kv.GetModRevision()))
	}
	if v.t.options.iso != SerializableSnapshot || v.read.rev == 0 {
		return guards
	}
	for _, key := range v.order {
		if _, read := v.read.kvs[key]; !read {
			guards = append(guards, v3.Compare(v3.ModRevision(key), "<", v.read.rev+1))
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

// rereads are the reads to make if the transaction cannot commit.
func (v *view) rereads() (keys []string, gets []v3.Op) {
	for key := range v.read.kvs {
		keys, gets = append(keys, key), append(gets, v3.OpGet(key))
	}
	return keys, gets
}

func (s *snapshot) add(keys []string, resp *v3.TxnResponse) {
	s.header = resp.Header
	for i, r := range resp.Responses {
		s.kvs[keys[i]] = nil
		if kvs := r.GetResponseRange().Kvs; len(kvs) > 0 {
			s.kvs[keys[i]] = kvs[0]
		}
	}
}

// lastHeader is the header of the last read, at the revision of the snapshot.
func (s *snapshot) lastHeader() *pb.ResponseHeader {
	if s.header == nil {
		return new(pb.ResponseHeader)
	}
	if s.rev != 0 {
		s.header.Revision = s.rev
	}
	return s.header
}
