package serviceconfig

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// A Config is what a gRPC service config says about calls. The parts that
// concern the channel (load balancing, health checking, connection scaling) are
// checked for their form by [Parse] but not kept.
//
// A Config may also be built by hand. It is not changed by this package and may
// be read by several goroutines.
type Config struct {
	// Methods holds the entries of methodConfig, in the order of the document.
	Methods []MethodConfig

	// Throttling is nil if the document has no retryThrottling.
	Throttling *RetryThrottling

	// AttemptLimit is the number of attempts that a call makes at most,
	// whatever its entry says. It is the client's to choose and in no document
	// (A6, "Limits on retries and hedges"). Zero and negative values stand for
	// [DefaultMaxAttempts].
	AttemptLimit int
}

// Attempts returns how many attempts a policy that says maxAttempts gives a
// call: at most c.AttemptLimit and at least 1.
func (c *Config) Attempts(maxAttempts int) int {
	limit := c.AttemptLimit
	if limit <= 0 {
		limit = DefaultMaxAttempts
	}
	return max(min(maxAttempts, limit), 1)
}

// A MethodConfig is an entry of methodConfig: what holds for the calls of the
// methods that it names.
type MethodConfig struct {
	// Names says which methods the entry is for. An entry without names is for
	// none.
	Names []Name

	// WaitForReady is nil if the entry does not say.
	WaitForReady *bool

	// Timeout bounds the whole of a call: all attempts of a unary call, and a
	// stream from its opening to its end. Zero means no bound.
	Timeout time.Duration

	// MaxRequestBytes and MaxResponseBytes bound the size of each message. They
	// are nil if the entry does not say; zero means that the message must be
	// empty.
	MaxRequestBytes, MaxResponseBytes *uint32

	// At most one of Retry and Hedging is set (A6).
	Retry   *RetryPolicy
	Hedging *HedgingPolicy

	at entryPositions
}

// entryPositions remembers where an entry stands, for the checks that need the
// services and so come after parsing.
type entryPositions struct {
	names            []Position
	timeout, hedging Position
}

// A Name names the methods that an entry is for: one method; all methods of a
// service if Method is empty; all methods of all services if both are empty.
type Name struct {
	Service string // with its package: etcdserverpb.KV
	Method  string // alone: Range
}

// path returns the key of n in an index: /service/method, /service/ or nothing.
func (n Name) path() string {
	if n.Service == "" {
		return ""
	}
	return "/" + n.Service + "/" + n.Method
}

// A RetryPolicy is the retryPolicy of an entry (A6). The pause after the nth
// attempt is min(InitialBackoff·BackoffMultiplier^(n-1), MaxBackoff) times a
// random factor between 0.8 and 1.2.
type RetryPolicy struct {
	// MaxAttempts counts the first attempt. It is the number in the document,
	// at least 2 and perhaps greater than the client's limit; see
	// [Config.Attempts].
	MaxAttempts int

	InitialBackoff, MaxBackoff time.Duration
	BackoffMultiplier          float64

	// Codes are the status codes after which a call is tried again.
	Codes []codes.Code
}

// A HedgingPolicy is the hedgingPolicy of an entry (A6).
type HedgingPolicy struct {
	// MaxAttempts counts the first attempt, as that of a [RetryPolicy] does.
	MaxAttempts int

	// Delay lies between two attempts that are under way at once. If it is
	// zero, all attempts start at once.
	Delay time.Duration

	// NonFatalCodes are the status codes after which the other attempts go on.
	NonFatalCodes []codes.Code
}

// A RetryThrottling is the retryThrottling of a config (A6). It holds for all
// calls to one server name together.
type RetryThrottling struct {
	MaxTokens  float64 // in (0, 1000]
	TokenRatio float64 // greater than 0
}

// DefaultMaxAttempts is the limit of a [Config] that sets no other, as A6 has
// it.
const DefaultMaxAttempts = 5

// Method returns the entry for a method, given as /package.Service/Method (the
// slash before it may be missing). An entry that names the method goes before
// one that names its service, and that before the default; entries are not
// merged. It returns nil if there is none.
//
// Method reads all entries; a [Policy] has an index.
func (c *Config) Method(fullMethod string) *MethodConfig {
	if i := c.index(fullMethod); i >= 0 {
		return &c.Methods[i]
	}
	return nil
}

// index returns the index of the entry for a method, -1 if there is none.
func (c *Config) index(fullMethod string) int {
	method := Name{}
	if i := strings.LastIndexByte(fullMethod, '/'); i >= 0 {
		method = Name{Service: strings.TrimPrefix(fullMethod[:i], "/"), Method: fullMethod[i+1:]}
	}
	for _, want := range []Name{method, {Service: method.Service}, {}} {
		for i, m := range c.Methods {
			if slices.Contains(m.Names, want) {
				return i
			}
		}
	}
	return -1
}
