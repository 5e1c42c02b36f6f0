// Package gaxuser is code as a user of gax-go 2.0.4 writes it. Package
// repriseuser is the same text with the import path changed.
package gaxuser

import (
	"context"
	"strconv"
	"time"

	gax "github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// Every name of gax-go 2.0.4, used as its type demands.
var (
	_ string                                                      = gax.Version
	_ gax.APICall                                                 = func(context.Context, gax.CallSettings) error { return nil }
	_ func(context.Context, gax.APICall, ...gax.CallOption) error = gax.Invoke
	_ func(context.Context, time.Duration) error                  = gax.Sleep
	_ func(...string) string                                      = gax.XGoogHeader
	_ func(...grpc.CallOption) gax.CallOption                     = gax.WithGRPCOptions
	_ func(func() gax.Retryer) gax.CallOption                     = gax.WithRetry
	_ func([]codes.Code, gax.Backoff) gax.Retryer                 = gax.OnCodes
	_ func(*gax.Backoff) time.Duration                            = (*gax.Backoff).Pause
	_ gax.CallOption                                              = header("")
	_ gax.Retryer                                                 = (*twice)(nil)
)

// header is a call option of the user's own.
type header string

// Resolve adds the header to the options for the stub.
func (h header) Resolve(cs *gax.CallSettings) {
	cs.GRPC = append(cs.GRPC, grpc.Header(nil))
}

// twice is a Retryer of the user's own.
type twice struct {
	backoff gax.Backoff
	asked   int
}

// Retry grants two retries, whatever the error.
func (r *twice) Retry(error) (pause time.Duration, shouldRetry bool) {
	if r.asked++; r.asked > 2 {
		return 0, false
	}
	return r.backoff.Pause(), true
}

// Client is a client as a generator for gax-go writes it.
type Client struct {
	// Stub is the RPC.
	Stub func(ctx context.Context, opts ...grpc.CallOption) (string, error)
	// CallOptions are those of every call.
	CallOptions []gax.CallOption
}

// NewClient returns a client that retries as its kind of method may be retried.
func NewClient(stub func(context.Context, ...grpc.CallOption) (string, error)) *Client {
	return &Client{Stub: stub, CallOptions: []gax.CallOption{
		gax.WithRetry(func() gax.Retryer {
			return gax.OnCodes([]codes.Code{codes.Unavailable, codes.Unknown}, gax.Backoff{
				Initial:    100 * time.Millisecond,
				Max:        time.Minute,
				Multiplier: 1.3,
			})
		}),
		gax.WithGRPCOptions(grpc.WaitForReady(true)),
	}}
}

// Get makes the call.
func (c *Client) Get(ctx context.Context, opts ...gax.CallOption) (string, error) {
	opts = append(c.CallOptions[0:len(c.CallOptions):len(c.CallOptions)], opts...)
	var resp string
	err := gax.Invoke(ctx, func(ctx context.Context, settings gax.CallSettings) error {
		var err error
		resp, err = c.Stub(ctx, settings.GRPC...)
		return err
	}, opts...)
	if err != nil {
		return "", err
	}
	return resp, nil
}

// GetTwiceAgain makes the call under a policy of its own and with a header.
func (c *Client) GetTwiceAgain(ctx context.Context) (string, error) {
	return c.Get(ctx, header("h"), gax.WithRetry(func() gax.Retryer {
		return &twice{backoff: gax.Backoff{Initial: time.Millisecond, Max: time.Millisecond}}
	}))
}

// GetOnce makes the call without a retry.
func (c *Client) GetOnce(ctx context.Context) (string, error) {
	return c.Get(ctx, gax.WithRetry(nil))
}

// Poll uses a Retryer and Sleep without Invoke, bounded by a deadline.
func Poll(ctx context.Context, timeout time.Duration, rpc func(context.Context) (string, error)) (string, error) {
	retryer := gax.OnCodes([]codes.Code{codes.Unknown, codes.Unavailable}, gax.Backoff{
		Initial:    time.Second,
		Max:        32 * time.Second,
		Multiplier: 2,
	})
	ctx, cancel := context.WithDeadline(ctx, time.Now().Add(timeout))
	defer cancel()
	for {
		resp, err := rpc(ctx)
		if err == nil {
			return resp, nil
		}
		delay, shouldRetry := retryer.Retry(err)
		if !shouldRetry {
			return "", err
		}
		if err := gax.Sleep(ctx, delay); err != nil {
			return "", err
		}
	}
}

// APIClientHeader is the header that names the client.
func APIClientHeader() string {
	return gax.XGoogHeader("gl-go", "1.26.0", "gax", strconv.FormatBool(gax.Version != ""))
}

// Settings shows that the fields of the settings are there to be set.
func Settings() gax.CallSettings {
	cs := gax.CallSettings{
		Retry: func() gax.Retryer { return &twice{} },
		GRPC:  []grpc.CallOption{grpc.WaitForReady(true)},
	}
	gax.WithRetry(nil).Resolve(&cs)
	return cs
}
