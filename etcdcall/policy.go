package etcdcall

import (
	"context"
	"slices"
	"time"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/internal/patience"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// class says what a method does, and so how it may be retried.
type class uint8

const (
	// read changes nothing: it is retried through every failure that may pass.
	read class = iota
	// idempotentWrite may be applied twice; see twice.
	idempotentWrite
	// guardedWrite cannot be applied twice; see isGuarded.
	guardedWrite
	// blindWrite is retried only when it certainly was not applied.
	blindWrite
	// once is never retried.
	once
	// stream is retried, if at all, until its first message.
	stream
)

// String returns the word that stands in docs/etcd-errors.md.
func (c class) String() string {
	return [...]string{"read", "idempotent write", "guarded write", "blind write", "once", "stream"}[c]
}

// bounded reports whether an attempt that takes too long is ended and repeated.
func (c class) bounded() bool { return c == read || c == idempotentWrite || c == guardedWrite }

// policy is how one client makes its calls. It is not changed once made, but
// for its budget.
type policy struct {
	settings
	// overload is the budget of retries after ErrTooManyRequests, by which a
	// server says that there is too much to do already. All other failures may
	// be an election, during which every call fails; they do not count.
	overload reprise.Throttle
	patience *patience.Patience // of attempts; nil if they may take as long as they like
	cli      *clientv3.Client
	grpc     []grpc.CallOption
}

// bound is one RPC with its policy, bound three times; see service.
type bound[Req, Resp any] struct {
	policy               *policy
	class                class
	method               string
	short, long, endless unaryCall[Req, Resp]
}

type unaryCall[Req, Resp any] = func(context.Context, *Req, ...reprise.CallOption) (*Resp, error)

// bind binds a stub that is not generated as of class c, for calls that need no
// leader.
func bind[Req, Resp any](p *policy, c class, method string, stub unaryStub[Req, Resp]) bound[Req, Resp] {
	b := bindOptions(p, p.options(c), method, recorded(stub, p.needs(false)))
	b.class = c
	return b
}

// bindLed is bind for calls that need a leader.
func bindLed[Req, Resp any](p *policy, c class, method string, stub unaryStub[Req, Resp]) bound[Req, Resp] {
	b := bindOptions(p, p.options(c), method, recorded(stub, p.needs(true)))
	b.class = c
	return b
}

// bindOptions is bind for a stub that records its attempts itself, if at all,
// and for options of its own.
func bindOptions[Req, Resp any](p *policy, opts []reprise.CallOption, method string, stub unaryStub[Req, Resp]) bound[Req, Resp] {
	long := reprise.NewUnary(stub, opts...)
	endless := reprise.NewUnary(stub, append(slices.Clip(opts), reprise.WithMaxElapsed(p.maxElapsed))...)
	return bound[Req, Resp]{policy: p, method: method, short: long.Call, long: long.Call, endless: endless.Call}
}

// needs says what attempts are made with that nothing bounds but the call options.
func (p *policy) needs(leader bool) *attemptNeeds {
	leader = leader && !p.anyLeader
	return &attemptNeeds{leader: leader, headers: p.headers(leader)}
}

// call makes the call and returns what it ended with.
func (b *bound[Req, Resp]) call(ctx context.Context, req *Req, opts ...reprise.CallOption) (*Resp, error) {
	resp, err := b.within(ctx)(ctx, req, opts...)
	if err == nil {
		b.policy.overload.Done(false)
	}
	return resp, err
}

// within returns the call that is bound for the time that ctx leaves.
func (b *bound[Req, Resp]) within(ctx context.Context) unaryCall[Req, Resp] {
	if ctx == nil {
		return b.long
	}
	deadline, ok := ctx.Deadline()
	switch {
	case !ok:
		return b.endless
	case time.Until(deadline) <= b.policy.attemptTimeout:
		return b.short
	default:
		return b.long
	}
}

// do makes the call and returns what the caller gets.
func (b *bound[Req, Resp]) do(ctx context.Context, req *Req) (*Resp, error) {
	if b.class == idempotentWrite {
		return b.twice(ctx, req, nil)
	}
	resp, err := b.call(ctx, req)
	switch {
	case err == nil:
	case b.class == blindWrite:
		err = writeError(b.method, err)
	default:
		err = readError(err)
	}
	return resp, err
}

// options are the call options for methods of class c.
func (p *policy) options(c class) []reprise.CallOption {
	opts := p.untimed(c)
	if c.bounded() {
		opts = append(opts, reprise.WithAttemptTimeout(p.attemptTimeout))
	}
	return opts
}

// untimed are the call options for methods of class c, but for a bound on each
// attempt.
func (p *policy) untimed(c class) []reprise.CallOption {
	opts := []reprise.CallOption{reprise.WithGRPCOptions(p.grpc...), reprise.WithThrottle(p.throttle)}
	if p.logger != nil {
		opts = append(opts, reprise.WithObserver(reprise.SlogObserver(p.logger)))
	}
	switch c {
	case read, stream:
		opts = append(opts, reprise.WithRetry(p.retryReads))
	case blindWrite:
		opts = append(opts, reprise.WithRetry(p.retryWrites))
	}
	return opts
}

func (p *policy) retryReads() reprise.Retryer {
	return newRetryer(p.backoff, func(r *rule) verdict { return r.read }, p.allows)
}

func (p *policy) retryWrites() reprise.Retryer {
	return newRetryer(p.backoff, func(r *rule) verdict { return r.write }, p.allows)
}

// allows refuses the retries that cannot help this client, though they would
// help others.
func (p *policy) allows(r *rule) bool {
	switch r.server {
	case rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCUserEmpty: //nolint:errorlint // the very values of the table
		return p.cli.Username != "" && p.cli.Password != ""
	case rpctypes.ErrGRPCRequestTooManyRequests:
		p.overload.Done(true)
		return p.overload.Admit(2)
	case rpctypes.ErrGRPCNotSupportedForLearner:
		return len(p.cli.Endpoints()) > 1
	default:
		return true
	}
}

// rereads reports whether a read that failed with err is worth another.
func (p *policy) rereads(err error) bool {
	r := classify(err)
	return r.read == retry && p.allows(r)
}

// requireLeader is the metadata of clientv3.WithRequireLeader. It is shared by
// calls and must not be changed.
var requireLeader = metadata.Pairs(rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)

// led returns the context of a call that needs a leader.
func (p *policy) led(ctx context.Context) context.Context {
	if p.anyLeader || ctx == nil {
		return ctx
	}
	if _, ok := metadata.FromOutgoingContext(ctx); ok {
		return clientv3.WithRequireLeader(ctx)
	}
	return metadata.NewOutgoingContext(ctx, requireLeader)
}
