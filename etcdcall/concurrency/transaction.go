package concurrency

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/etcdcall/internal/patience"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// transaction is one call of NewSTM: attempts until one commits.
//
//  1. read what is known to be wanted, in one request.
//  2. run the user's function on a view of the store at that revision.
//  3. commit, if nothing that was read has changed. The same request reads again
//     what was read if it has.
//  4. if it has changed, begin again, at once or after a pause. What is wanted is
//     known now. If the pause was shorter than a read would take, what the failed
//     commit has read is still good enough to begin with.
//
// With a Memory the first attempt begins with a guess: the function runs on what
// is remembered, and the commit, or a request in its place, says whether that is
// still so.
type transaction struct {
	client   *v3.Client
	options  stmOptions
	apply    func(STM) error
	attempts *patience.Patience // at its reads

	learned *lesson
	// cost is how long the request took that brought what was learned.
	cost time.Duration
}

// lesson is what the last run has read, as a server had it when the run turned
// out to be in vain.
type lesson struct {
	items  map[string]item
	header *pb.ResponseHeader
	at     time.Time
	// now says that the next run begins without a pause.
	now bool
}

// maxPauseUnit bounds what the pauses are multiples of, so that one commit that
// was slow, as in an election, does not make the transaction sleep for a minute.
const maxPauseUnit = 20 * time.Millisecond

// The errors that end a run and not the transaction. No function of a user has
// them to return.
var (
	errConflict error = conflict{}
	// errWrongGuess ends a run on what was remembered and is not so.
	errWrongGuess = errors.New("stm: what was remembered has changed")
)

type conflict struct{}

func (conflict) Error() string { return ErrConflict.Error() }
func (conflict) Unwrap() error { return ErrConflict }

func (t *transaction) run() (*v3.TxnResponse, error) {
	opts := append(append([]reprise.CallOption(nil), t.options.call...), reprise.WithRetry(t.retryer))
	return reprise.Do(t.options.ctx, t.attempt, opts...)
}

// retryer retries conflicts, and nothing else.
func (t *transaction) retryer() reprise.Retryer {
	if t.options.backoff != nil {
		return reprise.OnErrorFunc(*t.options.backoff, func(err error) bool { return err == errConflict }) //nolint:errorlint // identity: a user's error may wrap another transaction's
	}
	unit := min(max(t.cost, time.Microsecond), maxPauseUnit)
	return &conflicts{pauses: reprise.Backoff{Initial: 8 * unit, Max: 64 * unit, Multiplier: 1.25, Jitter: reprise.JitterEqual}}
}

// attempt makes one attempt. Its error is errConflict, or final.
func (t *transaction) attempt(ctx context.Context) (*v3.TxnResponse, error) {
	if t.learned == nil && t.memory() != nil {
		resp, err := t.try(newView(ctx, t, t.memory()))
		if err != errWrongGuess { //nolint:errorlint // identity: a user's error may wrap another transaction's
			return resp, err
		}
	}
	return t.try(newView(ctx, t, nil))
}

// memory is what a guess can be made from, or nil.
func (t *transaction) memory() *Memory {
	if t.options.iso == ReadCommitted {
		return nil
	}
	return t.options.memory
}

// remember keeps what a server has told.
func (t *transaction) remember(resp *pb.ResponseHeader, items map[string]item) {
	if m := t.memory(); m != nil {
		m.learn(resp.ClusterId, items)
	}
}

// try runs the user's function on a view, and commits.
func (t *transaction) try(v *view) (*v3.TxnResponse, error) {
	if err := v.begin(); err != nil {
		return nil, err
	}
	end := v.run(t.apply)
	switch {
	case v.failed != nil && (end.panicked == nil || v.failed == errWrongGuess): //nolint:errorlint // never wrapped
		return nil, v.failed
	case end.returned && end.err == nil:
		return t.commit(v)
	}
	if v.recalled {
		if err := v.confirm(nil); err != nil && (end.returned || err == errWrongGuess) { //nolint:errorlint // never wrapped
			return nil, err
		}
	}
	return nil, end.pass()
}

// commit commits what the view has collected.
func (t *transaction) commit(v *view) (*v3.TxnResponse, error) {
	if len(v.writes) == 0 {
		if !v.oneSnapshot() && t.options.iso != ReadCommitted {
			if err := v.confirm(nil); err != nil {
				return nil, err
			}
		}
		return &v3.TxnResponse{Header: v.lastHeader(), Succeeded: true}, nil
	}
	began := time.Now()
	keys := slices.Collect(maps.Keys(v.read))
	resp, err := once(v.ctx, func(ctx context.Context) (*v3.TxnResponse, error) {
		return t.client.Txn(ctx).If(v.conditions()...).Then(v.puts()...).Else(gets(keys)...).Commit()
	})
	if err != nil {
		return nil, err
	}
	if !resp.Succeeded {
		return nil, v.outdated(keys, resp, began)
	}
	v.rememberCommit(resp.Header)
	return resp, nil
}

// outdated learns from the answer to a request that was made in vain, and returns
// the error of the run.
func (v *view) outdated(keys []string, resp *v3.TxnResponse, began time.Time) error {
	now := time.Now()
	v.t.cost = now.Sub(began)
	v.t.learned = &lesson{items: answers(keys, resp, resp.Header.Revision), header: resp.Header, at: now}
	v.t.remember(resp.Header, v.t.learned.items)
	if v.recalled {
		v.t.learned.now = true
		return errWrongGuess
	}
	return errConflict
}

// rememberCommit keeps what is known after the transaction has committed.
func (v *view) rememberCommit(header *pb.ResponseHeader) {
	m := v.t.memory()
	if m == nil {
		return
	}
	items := make(map[string]item, len(v.read)+len(v.writes))
	for key, it := range v.read {
		items[key] = it.confirmed(header.Revision)
	}
	var unknown []string
	for key, w := range v.writes {
		it := item{value: w.val, first: header.Revision, last: header.Revision}
		if w.op.IsPut() {
			it.mod = header.Revision
		}
		if !w.plain {
			delete(items, key)
			unknown = append(unknown, key)
			continue
		}
		items[key] = it
	}
	m.forget(unknown)
	m.learn(header.ClusterId, items)
}

// once makes a write that is repeated only if it certainly was not applied.
func once(ctx context.Context, request func(ctx context.Context) (*v3.TxnResponse, error)) (*v3.TxnResponse, error) {
	resp, err := reprise.Do(ctx, request, reprise.WithRetry(func() reprise.Retryer { return etcdcall.OnWrites(pauses) }))
	if err == nil || etcdcall.OutcomeOf(err) != etcdcall.Unknown {
		return resp, err
	}
	if _, ok := errors.AsType[*etcdcall.AmbiguousError](err); ok {
		return nil, err
	}
	return nil, &etcdcall.AmbiguousError{Method: pb.KV_Txn_FullMethodName, Err: err}
}

// ending is how the user's function ended.
type ending struct {
	err      error
	panicked any
	returned bool
}

// run calls the user's function in a goroutine, from which a failed Get can
// escape without the user's recover standing in its way.
func (v *view) run(apply func(STM) error) ending {
	done := make(chan ending, 1)
	go func() {
		end := ending{}
		defer func() {
			if !end.returned {
				end.panicked = recover()
			}
			done <- end
		}()
		end.err = apply(v)
		end.returned = true
	}()
	return <-done
}

// pass ends the calling goroutine as the user's function has ended.
func (e ending) pass() error {
	switch {
	case e.returned:
		return e.err
	case e.panicked != nil:
		panic(e.panicked) // the user's own
	default:
		runtime.Goexit()
		return nil
	}
}
