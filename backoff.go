package reprise

import (
	"math"
	"math/rand/v2"
	"time"
)

// Backoff computes the pauses between the attempts of one call. An envelope
// starts at Initial, grows by the factor Multiplier with each pause, and is
// capped at Max; Jitter says how a pause is drawn from it.
//
// The zero value is ready for use: full jitter, 1 s, doubling, at most 30 s.
// Every value of every field is safe, as described at each.
//
// A Backoff is state of one call and not safe for concurrent use. The
// Retryers of this package copy the one that they are given.
type Backoff struct {
	// Initial is the first value of the envelope. Zero and negative values
	// stand for 1 second. An Initial above Max counts as Max.
	Initial time.Duration

	// Max caps the envelope. Zero and negative values stand for 30
	// seconds.
	Max time.Duration

	// Multiplier is the factor by which the envelope grows. Zero, negative
	// values and NaN stand for 2 (3 under JitterDecorrelated). Values
	// between 0 and 1 make the envelope shrink, as gRPC A6 allows.
	Multiplier float64

	// Jitter is how a pause is drawn from the envelope. The zero value is
	// JitterFull, and so is any value that has no name here.
	Jitter Jitter

	// Rand returns random numbers from [0, 1). Set it to make the pauses
	// repeatable; it must be safe for concurrent use if calls that share
	// it are. Nil stands for a generator that is seeded at random. Numbers
	// outside the interval, and NaN, are moved into it.
	Rand func() float64

	// cur is the envelope of the next pause; 0 before the first.
	// Under JitterDecorrelated it is the last pause.
	cur time.Duration
}

// Jitter is a way to draw a pause from the envelope v of a [Backoff].
// U(a, b) stands for a random number, uniform between a and b. The names and
// formulas are those of the AWS Architecture Blog's "Exponential Backoff And
// Jitter", but for JitterPlusMinus, which is gRPC's.
type Jitter uint8

const (
	// JitterFull pauses U(0, v). It spreads clients widest, and is the
	// default, as in gax-go. A pause is never less than 1 ns.
	JitterFull Jitter = iota
	// JitterEqual pauses v/2 + U(0, v/2).
	JitterEqual
	// JitterPlusMinus pauses v × U(0.8, 1.2), the rule of gRPC A6. The
	// factor comes after the cap, so a pause may exceed Max by a fifth.
	JitterPlusMinus
	// JitterDecorrelated pauses U(Initial, 3 × the last pause), at most
	// Max; a Multiplier that is set takes the place of the 3.
	JitterDecorrelated
	// JitterNone pauses v exactly. Clients that failed together then retry
	// together: it is meant for tests.
	JitterNone
)

const (
	defaultInitial = time.Second
	defaultMax     = 30 * time.Second
)

// Pause returns how long to wait before the next attempt, at least 1 ns, and
// advances the envelope.
func (bo *Backoff) Pause() time.Duration {
	if bo.Jitter == JitterDecorrelated {
		return bo.decorrelated()
	}
	limit := bo.limit()
	v := bo.cur
	if v <= 0 {
		v = bo.initial()
	}
	bo.cur = max(scale(v, bo.factor(2), limit), 1)

	switch bo.Jitter {
	case JitterEqual:
		return v/2 + bo.uniform(v-v/2)
	case JitterPlusMinus:
		return max(scale(v, 0.8+0.4*bo.random(), math.MaxInt64), 1)
	case JitterNone:
		return v
	default:
		return bo.uniform(v)
	}
}

// Reset makes the next Pause start at Initial again.
func (bo *Backoff) Reset() { bo.cur = 0 }

func (bo *Backoff) decorrelated() time.Duration {
	first, limit := bo.initial(), bo.limit()
	last := bo.cur
	if last <= 0 {
		last = first
	}
	upper := max(scale(last, bo.factor(3), limit), first)
	bo.cur = first - 1 + bo.uniform(upper-first+1)
	return bo.cur
}

// uniform returns a random duration from [1 ns, v].
func (bo *Backoff) uniform(v time.Duration) time.Duration {
	return max(min(1+time.Duration(bo.random()*float64(v)), v), 1)
}

func (bo *Backoff) random() float64 { return draw(bo.Rand) }

// draw returns a random number from [0, 1), by source if it is not nil.
func draw(source func() float64) float64 {
	if source == nil {
		return rand.Float64()
	}
	u := source()
	if !(u > 0) {
		return 0
	}
	return min(u, math.Nextafter(1, 0))
}

func (bo *Backoff) limit() time.Duration {
	if bo.Max <= 0 {
		return defaultMax
	}
	return bo.Max
}

func (bo *Backoff) initial() time.Duration {
	if bo.Initial <= 0 {
		return min(defaultInitial, bo.limit())
	}
	return min(bo.Initial, bo.limit())
}

func (bo *Backoff) factor(standard float64) float64 {
	if bo.Multiplier > 0 {
		return bo.Multiplier
	}
	return standard
}

// scale returns v × by, at most limit, whatever by is.
func scale(v time.Duration, by float64, limit time.Duration) time.Duration {
	f := float64(v) * by
	if f < float64(limit) {
		return time.Duration(f)
	}
	return limit
}
