package etcdcall

import (
	"log/slog"
	"time"

	"github.com/reprise-go/reprise"
)

// Option changes what [New], [Configure] and [Wrap] make. A nil Option is
// ignored.
type Option func(*settings)

// settings are what the options of one client add up to.
type settings struct {
	backoff        reprise.Backoff
	attemptTimeout time.Duration
	maxElapsed     time.Duration
	anyLeader      bool
	throttle       reprise.Throttler
	logger         *slog.Logger
	once           onceSettings
	watchSilence   time.Duration
	watchBuffer    int
	leaseCheck     time.Duration
}

// The defaults. They suit a cluster with etcd's default heartbeat (100 ms) and
// election timeout (1 s): a call rides through an election with some ten
// attempts.
const (
	// DefaultAttemptTimeout is the default of [WithAttemptTimeout].
	DefaultAttemptTimeout = 5 * time.Second
	// DefaultMaxElapsed is the default of [WithMaxElapsed].
	DefaultMaxElapsed = 60 * time.Second
	// DefaultKeepAliveTime and DefaultKeepAliveTimeout are set by [Configure]
	// where the user set no DialKeepAliveTime. A server that has silently
	// vanished is noticed after at most their sum. etcd servers accept pings
	// every 5 s, grpc-go sends them at most every 10 s.
	DefaultKeepAliveTime    = 10 * time.Second
	DefaultKeepAliveTimeout = 5 * time.Second
)

func newSettings(opts []Option) settings {
	s := settings{
		backoff:        reprise.Backoff{Initial: 25 * time.Millisecond, Max: time.Second, Multiplier: 2},
		attemptTimeout: DefaultAttemptTimeout,
		maxElapsed:     DefaultMaxElapsed,
	}
	for _, opt := range opts {
		if opt != nil {
			opt(&s)
		}
	}
	return s
}

// WithBackoff sets the pauses between attempts. The default is full jitter from
// 25 ms, doubling, at most 1 s.
func WithBackoff(bo reprise.Backoff) Option {
	return func(s *settings) { s.backoff = bo }
}

// WithAttemptTimeout bounds each attempt of a read and of an exactly-once write,
// by default to [DefaultAttemptTimeout]: that is what a black-holed endpoint
// costs such a call before it goes on to the next one. Raise it where single
// reads take longer, such as ranges of very many keys. Zero and negative values
// remove the bound. An attempt may last up to a sixteenth longer. The server is told
// the deadline of the call alone, not that of an attempt, whose end it learns by its
// cancellation.
//
// Blind writes have no attempt timeout, since to cut one makes its outcome
// unknown: they end by their context, or when keepalive finds the connection
// dead (see [DefaultKeepAliveTime]).
func WithAttemptTimeout(d time.Duration) Option {
	return func(s *settings) { s.attemptTimeout = max(d, 0) }
}

// WithMaxElapsed ends the retrying of a call whose context has no deadline after
// d, by default [DefaultMaxElapsed]. It cuts no attempt. Calls with a deadline
// are retried until that. Zero and negative values remove the limit.
func WithMaxElapsed(d time.Duration) Option {
	return func(s *settings) { s.maxElapsed = max(d, 0) }
}

// WithoutRequireLeader stops the client from asking servers to refuse calls at
// once while they know of no leader. Without a leader a linearizable call then
// hangs in the server for seconds, and a write among them ends with an unknown
// outcome. A context made by clientv3.WithRequireLeader still asks for it.
func WithoutRequireLeader() Option {
	return func(s *settings) { s.anyLeader = true }
}

// WithThrottle makes all calls of the client share the retry budget t; see
// [reprise.WithThrottle]. There is none by default: calls are meant to ride
// through an election, and a budget would end them in the middle of it.
func WithThrottle(t reprise.Throttler) Option {
	return func(s *settings) { s.throttle = t }
}
