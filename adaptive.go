package reprise

import (
	"math"
	"sync"
	"time"
)

// AdaptiveThrottle is the client-side throttling of the book "Site
// Reliability Engineering" (chapter "Handling Overload"). It counts, over a
// sliding window, the attempts that were to be sent and those that the server
// accepted, and refuses attempts, first ones included, with the probability
//
//	max(0, (requests − K × accepts) / (requests + 1))
//
// An attempt counts as accepted if it succeeded or failed with an error that
// is not retried, unless that only says that time ran out or that the caller
// cancelled. A refused attempt counts as a request, so that a client that
// insists is refused more often; some still pass, by which the throttle learns
// that the server has recovered. An attempt that would not have been made
// anyway, because of a limit of its call, does not count.
//
// A call that is refused returns after a short pause, an [*Error] with
// [ReasonThrottled] that [errors.Is] finds to be [ErrThrottled]. The pause
// keeps a caller that loops over calls from spinning.
//
// Use one for each server. It is safe for concurrent use. The zero value has
// the defaults that [AdaptiveConfig] names.
type AdaptiveThrottle struct {
	cfg AdaptiveConfig

	mu      sync.Mutex
	buckets [adaptiveBuckets]adaptiveBucket
	total   adaptiveBucket // the sum of buckets
	current int64          // the number of the newest bucket since the epoch
	epoch   time.Time
}

// AdaptiveConfig are the parameters of an [AdaptiveThrottle]. Values that make
// no sense stand for the defaults.
type AdaptiveConfig struct {
	// K is how many requests there may be for each one accepted before any
	// is refused. The default is 2, which the book advises; values below 1,
	// infinity and NaN stand for it.
	K float64

	// Window is the time over which requests are counted. The default is 2
	// minutes; zero and negative values stand for it.
	Window time.Duration

	// RefusalPause is how long a refused call waits before it returns, at
	// the mean: it is drawn from half to one and a half of it. The default
	// is 10 ms; zero stands for it, and negative values for no pause.
	RefusalPause time.Duration

	// Rand returns random numbers from [0, 1), safe for concurrent use. Nil
	// stands for a generator that is seeded at random. Numbers outside the
	// interval, and NaN, are moved into it. It must not use the throttle.
	Rand func() float64
}

type adaptiveBucket struct{ requests, accepts int64 }

// adaptiveBuckets is into how many parts the window is cut.
const adaptiveBuckets = 32

// NewAdaptiveThrottle returns an AdaptiveThrottle with the parameters cfg.
func NewAdaptiveThrottle(cfg AdaptiveConfig) *AdaptiveThrottle {
	return &AdaptiveThrottle{cfg: cfg}
}

// Admit counts a request and reports whether it may be sent.
func (t *AdaptiveThrottle) Admit(int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.bucket()
	p := t.rejection()
	b.requests++
	t.total.requests++
	return p <= 0 || t.random() >= p
}

// Done counts an accept if the attempt succeeded.
func (t *AdaptiveThrottle) Done(failed bool) {
	if !failed {
		t.Declined()
	}
}

// Declined counts an accept: the server has answered.
func (t *AdaptiveThrottle) Declined() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bucket().accepts++
	t.total.accepts++
}

// Unsent takes back a request that Admit counted at the time asked or just
// after it, if that is within the window.
func (t *AdaptiveThrottle) Unsent(asked time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.number(asked)
	if first <= t.current-adaptiveBuckets {
		return
	}
	for n := max(first, 0); n <= t.current; n++ {
		if b := &t.buckets[n%adaptiveBuckets]; b.requests > 0 {
			b.requests--
			t.total.requests--
			return
		}
	}
}

// RefusalPause returns how long a refused call waits.
func (t *AdaptiveThrottle) RefusalPause() time.Duration {
	const standard = 10 * time.Millisecond
	mean := t.cfg.RefusalPause
	if mean == 0 {
		mean = standard
	}
	if mean < 0 {
		return 0
	}
	return scale(mean, 0.5+t.random(), math.MaxInt64)
}

// Rejection returns the probability with which the next request is refused.
func (t *AdaptiveThrottle) Rejection() float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bucket()
	return t.rejection()
}

func (t *AdaptiveThrottle) rejection() float64 {
	k := t.cfg.K
	if !(k >= 1) || math.IsInf(k, 1) {
		k = 2
	}
	requests := float64(t.total.requests)
	return max(0, (requests-k*float64(t.total.accepts))/(requests+1))
}

func (t *AdaptiveThrottle) random() float64 { return draw(t.cfg.Rand) }

// bucket returns the bucket of the present time, after those that have left
// the window were emptied.
func (t *AdaptiveThrottle) bucket() *adaptiveBucket {
	now := time.Now()
	if t.epoch.IsZero() {
		t.epoch = now
	}
	number := t.number(now)
	if number-t.current >= adaptiveBuckets {
		clear(t.buckets[:])
		t.total = adaptiveBucket{}
		t.current = number
	}
	for t.current < number {
		t.current++
		b := &t.buckets[t.current%adaptiveBuckets]
		t.total.requests -= b.requests
		t.total.accepts -= b.accepts
		*b = adaptiveBucket{}
	}
	return &t.buckets[number%adaptiveBuckets]
}

// number returns the number of the bucket of a time since the epoch.
func (t *AdaptiveThrottle) number(at time.Time) int64 {
	window := t.cfg.Window
	if window <= 0 {
		window = 2 * time.Minute
	}
	return int64(at.Sub(t.epoch) / max(window/adaptiveBuckets, 1))
}
