package concurrency

import (
	"context"
	"errors"

	"github.com/reprise-go/reprise"
	v3 "go.etcd.io/etcd/client/v3"
)

// STM is the view that a transaction has of the store, see [NewSTM]. It is valid
// while the function runs that it was given to, and is for the goroutine of that
// function alone.
type STM interface {
	// Get returns the value of a key, or "" if there is none, and adds the key
	// to what the transaction has read. Given several keys, it reads them in
	// one round trip and returns the value of the first. What the transaction
	// has written itself is returned as written. If reading fails, the
	// transaction ends with the error: Get does not return, and deferred
	// functions run.
	Get(key ...string) string
	// Put writes a key when the transaction commits.
	Put(key, val string, opts ...v3.OpOption)
	// Rev returns the revision at which a key was last changed, or 0 if it
	// does not exist, and adds the key to what the transaction has read.
	Rev(key string) int64
	// Del deletes a key when the transaction commits.
	Del(key string)

	// stm keeps the interface to this package, so that it can grow.
	stm()
}

// Isolation says how far transactions see each other.
type Isolation int

const (
	// SerializableSnapshot is [Serializable], and nothing that the transaction
	// writes may have been changed since its snapshot either, even if it was
	// not read. It is the default.
	SerializableSnapshot Isolation = iota
	// Serializable reads one snapshot of the store, at the revision of the
	// first read, and commits only if nothing that was read has changed since.
	Serializable
	// RepeatableReads reads each key once, at whatever revision that is, and
	// commits only if nothing that was read has changed since. What is read is
	// therefore of one moment only if the transaction commits.
	RepeatableReads
	// ReadCommitted reads what is committed, and commits in any case.
	ReadCommitted
)

// ErrConflict is the error of an attempt at a transaction whose reads were
// outdated when it was to commit. Errors.Is finds it when a transaction was
// stopped by a limit or by its context while it was in conflict with others.
var ErrConflict = errors.New("stm: what was read has changed")

// STMOption changes how [NewSTM] runs a transaction. A nil STMOption is ignored.
type STMOption func(*stmOptions)

type stmOptions struct {
	iso      Isolation
	ctx      context.Context
	prefetch []string
	memory   *Memory
	backoff  *reprise.Backoff
	call     []reprise.CallOption
}

// WithIsolation sets the isolation level. The default is [SerializableSnapshot].
func WithIsolation(lvl Isolation) STMOption {
	return func(o *stmOptions) { o.iso = lvl }
}

// WithAbortContext sets the context of the transaction, which is otherwise that
// of the client. When it ends, so does the transaction.
func WithAbortContext(ctx context.Context) STMOption {
	return func(o *stmOptions) {
		if ctx != nil {
			o.ctx = ctx
		}
	}
}

// WithPrefetch reads keys in one round trip before the transaction's function
// runs, so that its Gets of them cost none. It is a hint: what the function does
// not read is not compared. After a conflict everything that the function has read
// is read that way, named here or not. With [WithMemory] nothing is read before the
// function runs if all of the keys are remembered.
func WithPrefetch(keys ...string) STMOption {
	return func(o *stmOptions) { o.prefetch = append(o.prefetch, keys...) }
}

// WithConflictBackoff sets the pauses after conflicts. By default there is none
// after the first two. After the third the transaction begins again at once with a
// chance of two in three, after the n-th of two in n, and else pauses: so few
// clients keep a key busy, and many keep out of each other's way. The pauses begin
// at four to eight times what the first failed commit took, or 20 ms if it took
// longer, and grow by a quarter each up to 32 to 64 times that
// ([reprise.JitterEqual]): they follow the distance and the load of the servers,
// and none is longer than 1.28 s.
//
// The answer to a failed commit brings anew what the function has read. After a
// pause shorter than the commit took, the function runs again on that; after a
// longer one, which under contention it does not outlive, all of it is read once
// more, in one request.
func WithConflictBackoff(bo reprise.Backoff) STMOption {
	return func(o *stmOptions) { o.backoff = &bo }
}

// WithCallOptions sets limits for the attempts of the transaction, such as
// [reprise.WithMaxAttempts] and [reprise.WithTimeout]. Conflicts are retried
// whatever Retryer is among them. By default the context is the only limit.
func WithCallOptions(opts ...reprise.CallOption) STMOption {
	return func(o *stmOptions) { o.call = append(o.call, opts...) }
}

// NewSTM runs apply as a transaction: what it reads and writes through its STM
// takes effect as if at one moment, or not at all. After a conflict with another
// transaction, apply runs again; it must have no other effects. It returns when
// the transaction has committed, when apply returned an error, which it returns
// as it is, or when its context or a limit ends it.
//
// A transaction that only reads, of one snapshot, commits without a request: the
// snapshot was read linearizably. Otherwise the commit is one request. A
// transaction whose reads are prefetched thus takes one round trip if it only reads
// and two if it writes; with [WithMemory] it takes one, while others do not change
// what it works on.
//
// Every level but ReadCommitted and RepeatableReads is opaque: also an attempt
// that will not commit has seen the store as it was at one revision. A panic in
// apply reaches the caller of NewSTM, as does runtime.Goexit.
//
// If the answer to the commit is lost, the transaction is not made again, since
// that could apply it twice: NewSTM returns an [etcdcall.AmbiguousError]. With a
// client that writes exactly once (etcdcall.WithExactlyOnce) it goes on.
func NewSTM(c *v3.Client, apply func(STM) error, so ...STMOption) (*v3.TxnResponse, error) {
	o := stmOptions{ctx: c.Ctx()}
	for _, opt := range so {
		if opt != nil {
			opt(&o)
		}
	}
	if apply == nil || o.iso < SerializableSnapshot || o.iso > ReadCommitted {
		return nil, &reprise.ArgumentError{Func: "NewSTM", Problem: "the function is nil or the isolation level unknown"}
	}
	if err := o.checkMemory(c); err != nil {
		return nil, err
	}
	t := &transaction{client: c, options: o, apply: apply, attempts: newAttempts()}
	defer t.attempts.Exhaust()
	return t.run()
}

// NewSTMRepeatable is [NewSTM] with [RepeatableReads].
func NewSTMRepeatable(ctx context.Context, c *v3.Client, apply func(STM) error) (*v3.TxnResponse, error) {
	return NewSTM(c, apply, WithAbortContext(ctx), WithIsolation(RepeatableReads))
}

// NewSTMSerializable is [NewSTM] with [Serializable].
func NewSTMSerializable(ctx context.Context, c *v3.Client, apply func(STM) error) (*v3.TxnResponse, error) {
	return NewSTM(c, apply, WithAbortContext(ctx), WithIsolation(Serializable))
}

// NewSTMReadCommitted is [NewSTM] with [ReadCommitted].
func NewSTMReadCommitted(ctx context.Context, c *v3.Client, apply func(STM) error) (*v3.TxnResponse, error) {
	return NewSTM(c, apply, WithAbortContext(ctx), WithIsolation(ReadCommitted))
}
