package gaxcall

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/googleapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/reprise-go/reprise"
)

// ToGAX returns the policy of opts as a gax call option, to be passed to a
// method of a generated client. The Retryer, the throttle, server advice
// ([reprise.WithPushback]), the limits of attempts and time, and gRPC options
// are kept. What gax's own loop has no place for gives an error: hedging,
// attempt timeouts and observers, for which an interceptor of package reprise
// is the way.
//
// Pass it after other gax options, since gax.WithGRPCOptions drops the gRPC
// options before it, and with them the throttle's and the trailer's. As gax
// has it, first attempts are made without asking the throttle, the timeout
// counts only for a context without a deadline, and the error is the last
// attempt's as an *apierror.APIError, or a bare context error.
func ToGAX(opts ...reprise.CallOption) (gax.CallOption, error) {
	opts = slices.Clone(opts)
	if _, err := reprise.NewDecider(opts...); err != nil {
		return nil, err
	}
	var cs reprise.CallSettings
	reprise.Options(opts...).Resolve(&cs)
	return &policy{opts: opts, settings: cs}, nil
}

// policy is a Reprise policy as a gax option.
type policy struct {
	opts     []reprise.CallOption
	settings reprise.CallSettings
}

// Resolve sets up the state of one call, for which gax resolves its options.
func (p *policy) Resolve(s *gax.CallSettings) {
	if p.settings.Timeout > 0 {
		gax.WithTimeout(p.settings.Timeout).Resolve(s)
	}
	decider, err := reprise.NewDecider(p.opts...)
	if err != nil {
		return // ToGAX has excluded it
	}
	c := &call{decider: decider}
	s.GRPC = slices.Concat(s.GRPC, p.settings.GRPC, []grpc.CallOption{grpc.Trailer(&c.trailer), grpc.OnFinish(c.finished)})
	s.Retry = func() gax.Retryer { return c }
}

// call is one call, as the Retryer that gax asks.
type call struct {
	decider *reprise.Decider
	trailer metadata.MD // of the last attempt
}

// Retry leaves the decision to Reprise. gax has checked nothing about time; a
// pause beyond the context's end is cut short by its own Sleep.
func (c *call) Retry(err error) (time.Duration, bool) {
	trailer := c.trailer
	c.trailer = nil
	pause, stop := c.decider.Failed(context.Background(), err, trailer)
	return pause, stop == nil
}

func (c *call) finished(err error) {
	if err == nil {
		c.decider.Succeeded()
	}
}

// FromGAX returns gax call options as an option of Reprise: the Retryer, the
// gRPC options, the timeout. A path (gax.WithPath) and telemetry have no
// counterpart and are dropped, as are timeouts that are not positive. Nil
// options are passed over. What [ToGAX] has made is what it was before.
//
// The options are resolved here, once. The timeout, which gax keeps to itself, is
// found out by calls to gax.Invoke whose attempts do nothing but look at their
// deadline: none of them sleeps, runs code of the options or leaves a trace in
// telemetry. It is measured by the monotonic clock and so may be some
// microseconds too long.
func FromGAX(opts ...gax.CallOption) reprise.CallOption {
	var list []reprise.CallOption
	var s gax.CallSettings
	for _, o := range opts {
		if p, ok := o.(*policy); ok {
			list = append(append(list, fromSettings(s)...), p.opts...)
			s = gax.CallSettings{}
		} else if o != nil {
			o.Resolve(&s)
		}
	}
	return reprise.Options(append(list, fromSettings(s)...)...)
}

// fromSettings returns what s sets.
func fromSettings(s gax.CallSettings) []reprise.CallOption {
	list := []reprise.CallOption{reprise.WithGRPCOptions(s.GRPC...)}
	if d := timeoutOf(s); d > 0 {
		list = append(list, reprise.WithTimeout(d))
	}
	if s.Retry != nil {
		list = append(list, reprise.WithRetry(func() reprise.Retryer {
			if r := s.Retry(); r != nil {
				return r
			}
			return nil
		}))
	}
	return list
}

// timeoutOf returns the timeout of s, 0 for none. What passes between the
// readings of the clock, here and within gax, adds to it: the shortest of
// several counts.
func timeoutOf(s gax.CallSettings) time.Duration {
	shortest := time.Duration(math.MaxInt64)
	for range 8 {
		start, timeout := time.Now(), time.Duration(0)
		_ = gax.Invoke(context.Background(), func(ctx context.Context, _ gax.CallSettings) error {
			if deadline, ok := ctx.Deadline(); ok {
				timeout = deadline.Sub(start)
			}
			return nil
		}, settled(s), gax.WithClientMetrics(nil), gax.WithClientTracing(nil), gax.WithClientLogging(nil))
		shortest = min(shortest, timeout)
	}
	return max(shortest.Truncate(time.Microsecond), 0)
}

// settled are settings as the option that makes them.
type settled gax.CallSettings

// Resolve implements gax.CallOption.
func (o settled) Resolve(s *gax.CallSettings) { *s = gax.CallSettings(o) }

// OnHTTPCodes returns a Retryer that retries a *googleapi.Error, as the REST
// transports of Google clients return it, whose HTTP status is one of cc. It
// pauses as bo says. It can be joined with others by [reprise.AnyOf].
func OnHTTPCodes(bo reprise.Backoff, cc ...int) reprise.Retryer {
	cc = slices.Clone(cc)
	return reprise.OnErrorFunc(bo, func(err error) bool {
		e, ok := errors.AsType[*googleapi.Error](err)
		return ok && slices.Contains(cc, e.Code)
	})
}
