package reprise

import (
	"context"
	"strconv"

	"google.golang.org/grpc/metadata"
)

// attemptsHeader is the name under which gRPC A6 tells the server how many
// attempts came before this one. A first attempt bears no such header.
const attemptsHeader = "grpc-previous-rpc-attempts"

// AttemptFromContext returns the number of the attempt that ctx belongs to:
// 1 for the first attempt of a call, 2 for its first retry. Outside a call
// of this package, and for a nil ctx, it returns 1 too.
func AttemptFromContext(ctx context.Context) int {
	if ctx == nil {
		return 1
	}
	if c, ok := ctx.Value(attemptKey{}).(*attemptContext); ok {
		return c.number
	}
	return 1
}

type attemptKey struct{}

// attemptContext is the context of a retry. It knows the attempt's number
// and adds [attemptsHeader] to the outgoing gRPC metadata, both only when
// asked, so that a retry costs one allocation where no transport looks.
type attemptContext struct {
	context.Context //nolint:containedctx // it is one

	number int
}

func (c *attemptContext) Value(key any) any {
	switch key {
	case attemptKey{}:
		return c
	case outgoingKey:
		md, ok := metadata.FromOutgoingContext(c.Context)
		if !ok {
			md = metadata.MD{}
		}
		delete(md, attemptsHeader)
		if c.number > 1 {
			md.Set(attemptsHeader, strconv.Itoa(c.number-1))
		}
		return metadata.NewOutgoingContext(c.Context, md).Value(key)
	}
	return c.Context.Value(key)
}

// firstContext returns ctx as the context of a first attempt. If ctx belongs
// to an attempt of another call, inside which this one is made, that call's
// number is hidden: it says nothing of this one.
func firstContext(ctx context.Context) context.Context {
	if ctx.Value(attemptKey{}) != nil {
		return &attemptContext{Context: ctx, number: 1}
	}
	return ctx
}

// outgoingKey is the key under which package metadata keeps the outgoing
// metadata of a context. It has no exported name, but every look-up shows it.
var outgoingKey = func() any {
	p := &keyProbe{Context: context.Background()}
	metadata.FromOutgoingContext(p)
	return p.key
}()

type keyProbe struct {
	context.Context //nolint:containedctx // it is one

	key any
}

func (p *keyProbe) Value(key any) any {
	p.key = key
	return nil
}
