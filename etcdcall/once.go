package etcdcall

import (
	"context"
	"time"
)

// WithExactlyOnce makes the client's writes retryable after a failure that
// leaves open whether the write was applied: Put, Delete and every transaction
// that writes. Such a write is applied at most once, and exactly once if the
// cluster answers before the call's deadline; the response is that of the one
// application, also when only a later attempt brought it. It ends with an
// [AmbiguousError] when time ran out first, or, with cause [ErrIdentityLost],
// when the client was cut off for longer than its lease.
//
// The client keeps its records under prefix, such as "/myservice/once/", and
// writes no key outside of it. The prefix must not be empty, must not hold
// keys of anybody else, and the client's role needs read and write permission
// for it. Each write carries a record in its own transaction, so it costs one
// round trip as before, and is seen by a watch of the prefix. A write that
// touches keys under prefix itself is refused with a [ReservedKeyError].
//
// The records are one small key for each write that is under way at the same
// time, at most [OnceSlots], attached to a lease ([OnceTTL]). They are created
// with the first write, and go when the client is closed or its lease ends.
//
// Beyond what it costs in time (docs/exactly-once.md has the measure), a write
// differs from a plain one in this: the revision of the store grows also by a
// delete that deletes nothing and by a transaction whose branch only reads;
// and of the 128 operations that a server allows in a transaction by default,
// 127 remain without comparisons and 126 with them, see [TxnSizeError].
//
// The idea is that of RIFL (Lee et al., SOSP 2015).
func WithExactlyOnce(prefix string, opts ...OnceOption) Option {
	return func(s *settings) {
		o := onceSettings{enabled: true, prefix: prefix, ttl: DefaultOnceTTL, slots: DefaultOnceSlots}
		for _, opt := range opts {
			if opt != nil {
				opt(&o)
			}
		}
		s.once = o
	}
}

// OnceOption changes what [WithExactlyOnce] does. A nil OnceOption is ignored.
type OnceOption func(*onceSettings)

type onceSettings struct {
	enabled   bool
	prefix    string
	ttl       time.Duration
	slots     int
	onRequest bool
}

// Defaults of the options of [WithExactlyOnce].
const (
	// DefaultOnceTTL is the default of [OnceTTL].
	DefaultOnceTTL = 60 * time.Second
	// DefaultOnceSlots is the default of [OnceSlots].
	DefaultOnceSlots = 256

	maxOnceSlots = 1 << 14
)

// OnceTTL sets the time to live of the lease that the client's records hang on,
// in whole seconds, by default [DefaultOnceTTL]. The client renews it three
// times in that time. A client that reaches no quorum for longer may lose its
// records, and with them the knowledge of writes that were under way; the
// records of a client that died stay for that long. Less than a second counts
// as one; the server may choose more.
func OnceTTL(d time.Duration) OnceOption {
	return func(s *onceSettings) { s.ttl = max(d, time.Second) }
}

// OnceSlots sets how many writes the client can have under way at the same time,
// by default [DefaultOnceSlots]; further ones wait. It is also the greatest
// number of records, to which each nested transaction of a write adds one.
// Numbers below 1 count as 1, above 16384 as that.
func OnceSlots(n int) OnceOption {
	return func(s *onceSettings) { s.slots = min(max(n, 1), maxOnceSlots) }
}

// OnceOnRequest leaves the client's writes as they are without exactly-once,
// except for those whose context was made by [ExactlyOnce] with on set.
func OnceOnRequest() OnceOption {
	return func(s *onceSettings) { s.onRequest = true }
}

// ExactlyOnce returns a context that switches exactly-once writes on or off for
// the calls made under it, on a client that was made [WithExactlyOnce]. On
// other clients it has no effect.
func ExactlyOnce(ctx context.Context, on bool) context.Context {
	return context.WithValue(ctx, onceKey{}, on)
}

type onceKey struct{}

// wanted reports whether a write under ctx is to be made exactly once.
func (s *onceSettings) wanted(ctx context.Context) bool {
	if ctx != nil {
		if on, ok := ctx.Value(onceKey{}).(bool); ok {
			return on
		}
	}
	return !s.onRequest
}

// check finds what no client can work with.
func (s *onceSettings) check() error {
	if s.enabled && s.prefix == "" {
		return &ConfigurationError{Problem: "the prefix of WithExactlyOnce is empty"}
	}
	return nil
}
