package etcdcall

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/reprise-go/reprise/etcdcall/internal/ending"
	"github.com/reprise-go/reprise/etcdcall/internal/keyrange"
)

// listStream is a RangeStream that hands out the rest of a list. What comes on
// it is bounded by the flow control of gRPC when nobody reads it.
type listStream struct {
	ctx      context.Context //nolint:containedctx // the life of the stream
	cancel   context.CancelCauseFunc
	patience time.Duration // how long the next part may take
	chunks   clientv3.GetStreamChan
	err      error  // why it could not be opened
	cluster  uint64 // 0 before a chunk said it
	more     bool
}

// errStreamCut is a stream that ended without having said what it belongs to.
var errStreamCut = errors.New("etcdcall: the stream of a list ended early")

// openStream opens a stream of the rest of the list.
func (l *ListWatch) openStream(ctx context.Context) *listStream {
	life, forget := context.WithTimeout(l.ctx, forever)
	s := &listStream{patience: l.watch.sub.Silence()}
	s.ctx, s.cancel = context.WithCancelCause(life)
	context.AfterFunc(s.ctx, forget)
	defer context.AfterFunc(ctx, func() { s.cancel(context.Cause(ctx)) })()
	defer time.AfterFunc(s.patience, func() { s.cancel(ending.ErrSilent) }).Stop()
	if s.chunks, s.err = l.kv.GetStream(s.ctx, l.list.from, l.partOptions()...); s.err == nil {
		// clientv3 reads on until someone takes the last chunk.
		context.AfterFunc(s.ctx, func() {
			for range s.chunks {
			}
		})
	}
	return s
}

// next waits for the next chunk. It returns neither a chunk nor an error at the
// end of the list. The stream outlives an end of ctx.
func (s *listStream) next(ctx context.Context) (*clientv3.RangeStreamResponse, error) {
	if cause := context.Cause(s.ctx); cause != nil {
		return nil, cause
	}
	if s.err != nil {
		return nil, s.err
	}
	patience := time.NewTimer(s.patience)
	defer patience.Stop()
	select {
	case chunk, ok := <-s.chunks:
		switch {
		case s.ctx.Err() != nil:
			return nil, context.Cause(s.ctx) // a chunk before this one may have been dropped
		case ok && chunk.Err() != nil:
			return nil, chunk.Err()
		case ok:
			return &chunk, nil
		case s.cluster == 0 || s.more:
			return nil, errStreamCut
		}
		return nil, nil
	case <-patience.C:
		return nil, ending.ErrSilent
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// close ends the stream. A nil stream has ended.
func (s *listStream) close() {
	if s != nil {
		s.cancel(nil)
	}
}

// readStream reads the next part of the list from its stream.
func (l *ListWatch) readStream(ctx context.Context) (*Changes, error) {
	list := l.list
	chunk, err := list.stream.next(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		if list.stream.ctx.Err() != nil {
			list.stream = nil // it was being opened
		}
		return nil, err
	case isOvertaken(err):
		l.overtaken(err)
		return nil, nil
	case err != nil:
		l.fallBack(err)
		return nil, nil
	case chunk == nil && list.stream.cluster != list.cluster:
		l.begin(Resynced, true)
		return nil, nil
	case chunk == nil:
		list.stream.close()
		return l.lastPart(nil), nil
	}
	if h := chunk.Header; h != nil {
		list.stream.cluster, list.stream.more = h.ClusterId, chunk.More
	}
	return l.part(l.take(chunk.Kvs)), nil
}

// fallBack gives up a stream that broke with err, for a page.
func (l *ListWatch) fallBack(err error) {
	list := l.list
	list.stream.close()
	list.stream, list.paged = nil, true
	if l.end != keyrange.NoEnd && list.from >= l.end {
		// Nothing follows, but what came must be confirmed to be of the
		// same store: the last key is read again.
		list.from = strings.TrimSuffix(list.from, "\x00")
	}
	code, _ := codeAndMessage(err)
	if code == codes.Unimplemented {
		l.noStreams.Store(true)
	}
	list.unstreamable = !resumable(err) && !errors.Is(err, errStreamCut)
}

// streamsOf returns where it is noted that RangeStream is not to be had by kv:
// for a KV of this package, of which every ListWatch asks the same servers, that
// is the same for all.
func streamsOf(other clientv3.KV) *atomic.Bool {
	if cli, ok := other.(*clientv3.Client); ok && cli != nil {
		other = cli.KV
	}
	if own, ok := other.(*kv); ok && own != nil {
		return &own.noStreams
	}
	return new(atomic.Bool)
}
