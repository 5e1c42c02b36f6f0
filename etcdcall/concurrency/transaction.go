package concurrency

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// transaction is one call of NewSTM: attempts until one commits.
//
//  1. read what is known to be wanted, in one request.
//  2. run the user's function on a view of the store at that revision.
//  3. commit, if nothing that was read has changed. The same request reads again
//     what was read if it has.
//  4. if it has changed, pause, and begin again. What is wanted is known now. If
//     the pause was shorter than a read would take, what the failed commit has
//     read is still good enough to begin with.
type transaction struct {
	client  *v3.Client
	options stmOptions
	apply   func(STM) error

	// learned is what the last attempt has read, as the failed commit found
	// it at time learnedAt.
	learned   *snapshot
	learnedAt time.Time
	// cost is how long the commit of the last attempt took.
	cost time.Duration
}

func (t *transaction) run() (*v3.TxnResponse, error) {
	opts := append(append([]reprise.CallOption(nil), t.options.call...), reprise.WithRetry(t.retryer))
	return reprise.Do(t.options.ctx, t.attempt, opts...)
}

// retryer retries conflicts, and nothing else.
func (t *transaction) retryer() reprise.Retryer {
	bo := reprise.Backoff{Initial: max(t.cost, time.Microsecond), Max: 64 * max(t.cost, time.Microsecond)}
	if t.options.backoff != nil {
		bo = *t.options.backoff
	}
	return reprise.OnErrorFunc(bo, func(err error) bool { return err == ErrConflict }) //nolint:errorlint // identity: a user's error may wrap another transaction's
}

// attempt makes one attempt. Its error is ErrConflict, or final.
func (t *transaction) attempt(ctx context.Context) (*v3.TxnResponse, error) {
	v := newView(ctx, t)
	if err := v.begin(); err != nil {
		return nil, err
	}
	if err := v.run(t.apply); err != nil {
		return nil, err
	}
	return t.commit(ctx, v)
}

// commit commits what the view has collected.
func (t *transaction) commit(ctx context.Context, v *view) (*v3.TxnResponse, error) {
	if len(v.writes) == 0 && (v.oneSnapshot() || t.options.iso == ReadCommitted) {
		return &v3.TxnResponse{Header: v.read.lastHeader(), Succeeded: true}, nil
	}
	began := time.Now()
	keys, gets := v.rereads()
	request := func(ctx context.Context) (*v3.TxnResponse, error) {
		return t.client.Txn(ctx).If(v.guards()...).Then(v.puts()...).Else(gets...).Commit()
	}
	var resp *v3.TxnResponse
	var err error
	if len(v.writes) == 0 {
		resp, err = repeatable(ctx, request)
	} else {
		resp, err = once(ctx, request)
	}
	if err != nil {
		return nil, err
	}
	if resp.Succeeded {
		return resp, nil
	}
	t.cost, t.learnedAt = time.Since(began), time.Now()
	t.learned = newSnapshot(resp.Header.Revision)
	t.learned.add(keys, resp)
	return nil, ErrConflict
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

// run calls the user's function in a goroutine, from which a failed Get can
// escape without the user's recover standing in its way.
func (v *view) run(apply func(STM) error) error {
	type outcome struct {
		err      error
		panicked any
		returned bool
	}
	done := make(chan outcome, 1)
	go func() {
		out := outcome{}
		defer func() {
			if !out.returned {
				out.panicked = recover()
			}
			done <- out
		}()
		out.err = apply(v)
		out.returned = true
	}()
	out := <-done
	switch {
	case out.returned:
		return out.err
	case out.panicked != nil:
		panic(out.panicked) // the user's own
	case v.failed != nil:
		return v.failed
	default:
		runtime.Goexit()
		return nil
	}
}
