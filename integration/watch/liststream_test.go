package watch_test

import (
	"context"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// rangeStreams interferes with the streams by which a server tells a range.
type rangeStreams struct {
	opened atomic.Int64
	// before is called before the server sends the n-th message, from 1 on, of
	// the stream with that number. An error ends the stream.
	before func(ctx context.Context, stream, n int64) error
}

func (r *rangeStreams) option() etcdtest.Option {
	return etcdtest.WithServerOptions(grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if info.FullMethod != pb.KV_RangeStream_FullMethodName {
				return handle(srv, ss)
			}
			s := &rangeStream{ServerStream: ss, all: r, number: r.opened.Add(1)}
			err := handle(srv, s)
			if s.err != nil {
				return s.err // etcd makes another of it
			}
			return err
		}))
}

type rangeStream struct {
	grpc.ServerStream
	all       *rangeStreams
	number, n int64
	err       error
}

func (s *rangeStream) SendMsg(m any) error {
	if s.n++; s.all.before != nil {
		if s.err = s.all.before(s.Context(), s.number, s.n); s.err != nil {
			return s.err
		}
	}
	return s.ServerStream.SendMsg(m)
}

// listAll applies a whole list to a replica and returns how many events came of
// each origin.
func listAll(t *testing.T, l *etcdcall.ListWatch, r replica) map[etcdcall.Origin]int {
	t.Helper()
	n := map[etcdcall.Origin]int{}
	for {
		c, err := l.Next(soon(t))
		must(t, err)
		r.apply(c.Events)
		n[c.Origin] += len(c.Events)
		if !c.More {
			return n
		}
	}
}

func TestAListIsReadFromAStream(t *testing.T) {
	t.Parallel()
	const keys = 3000
	var streams rangeStreams
	c := etcdtest.New(t, streams.option())
	fill(t, truth(t, c), keys)
	before := stored(t, truth(t, c), prefix)
	l := listWatch(t, client(t, c), prefix, clientv3.WithPrefix())
	r := replica{}
	first, err := l.Next(soon(t))
	must(t, err)
	r.apply(first.Events)
	// What changes while the other parts are read does not show in them.
	last := put(t, truth(t, c), fmt.Sprintf("%s%018d", prefix, keys-1), "new")
	if n := listAll(t, l, r)[etcdcall.Listed] + len(first.Events); n != keys || !maps.Equal(r, before) {
		t.Errorf("%d events were listed, want %d, all of one revision", n, keys)
	}
	follow(t, l, r, last)
	if !maps.Equal(r, stored(t, truth(t, c), prefix)) {
		t.Error("the copy differs from the store")
	}
	if n := streams.opened.Load(); n != 1 {
		t.Errorf("%d streams were opened, want 1", n)
	}
}

// TestAListGoesOnAfterItsStreamBreaks breaks each stream at its fourth message,
// in the ways that a stream can break, while the store changes.
func TestAListGoesOnAfterItsStreamBreaks(t *testing.T) {
	t.Parallel()
	const keys = 6000
	for name, test := range map[string]struct {
		breaks func(ctx context.Context, link *etcdtest.Link) error
		once   bool // the list takes pages then
	}{
		"the link is cut": {breaks: func(_ context.Context, link *etcdtest.Link) error { link.Reset(); return nil }},
		"the server is busy": {breaks: func(context.Context, *etcdtest.Link) error {
			return status.Error(codes.Unavailable, "busy")
		}},
		"it falls silent": {breaks: func(ctx context.Context, _ *etcdtest.Link) error { <-ctx.Done(); return ctx.Err() }},
		"it cannot go on": {once: true, breaks: func(context.Context, *etcdtest.Link) error {
			return status.Error(codes.ResourceExhausted, "grpc: received message larger than max (2 vs. 1)")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var streams rangeStreams
			c := etcdtest.New(t, streams.option())
			fill(t, truth(t, c), keys)
			cli := client(t, c, etcdcall.WithWatchSilence(250*time.Millisecond))
			l := listWatch(t, cli, prefix, clientv3.WithPrefix())
			before := stored(t, truth(t, c), prefix)
			var last atomic.Int64
			streams.before = func(ctx context.Context, stream, n int64) error {
				if n != 4 || stream > 4 {
					return nil
				}
				r, err := truth(t, c).Put(ctx, fmt.Sprintf("%s%018d", prefix, keys-stream), "changed")
				if err != nil {
					return err
				}
				last.Store(r.Header.Revision)
				return test.breaks(ctx, c.Member(0).ClientLink())
			}
			r := replica{}
			if n := listAll(t, l, r)[etcdcall.Listed]; n != keys || !maps.Equal(r, before) {
				t.Errorf("%d events were listed, want %d, all of one revision", n, keys)
			}
			follow(t, l, r, last.Load())
			if !maps.Equal(r, stored(t, truth(t, c), prefix)) {
				t.Error("the copy differs from the store")
			}
			if n := streams.opened.Load(); n < 2 && !test.once || n != 1 && test.once {
				t.Errorf("%d streams were opened", n)
			}
		})
	}
}

func TestAListBeginsAnewWhenCompactionOvertakesItsStream(t *testing.T) {
	t.Parallel()
	const keys = 3000
	var streams rangeStreams
	c := etcdtest.New(t, streams.option())
	fill(t, truth(t, c), keys)
	streams.before = func(ctx context.Context, stream, n int64) error {
		if stream != 1 || n != 3 {
			return nil
		}
		for _, i := range []int{0, keys - 1} { // listed already, and not yet
			if _, err := truth(t, c).Delete(ctx, fmt.Sprintf("%s%018d", prefix, i)); err != nil {
				return err
			}
		}
		_, err := c.Compact(ctx, 0)
		return err
	}
	l := listWatch(t, client(t, c), prefix, clientv3.WithPrefix())
	r := replica{}
	n := listAll(t, l, r)
	if n[etcdcall.Listed] == 0 || n[etcdcall.Resynced] == 0 || n[etcdcall.Listed]+n[etcdcall.Resynced] != keys {
		t.Errorf("got events by origin %v, want %d, the last %d of them resynced", n, keys, keys-n[etcdcall.Listed])
	}
	if !maps.Equal(r, stored(t, truth(t, c), prefix)) {
		t.Error("the copy differs from the store")
	}
	if n := streams.opened.Load(); n > 2 {
		t.Errorf("%d streams were opened", n)
	}
}

func TestAServerWithoutStreamsIsAskedForOneOnce(t *testing.T) {
	t.Parallel()
	const keys = 1200
	var asked atomic.Int64
	c := etcdtest.New(t, etcdtest.WithServerOptions(grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if info.FullMethod == pb.KV_RangeStream_FullMethodName {
				asked.Add(1)
				return status.Error(codes.Unimplemented, "unknown method RangeStream for service etcdserverpb.KV")
			}
			return handle(srv, ss)
		})))
	fill(t, truth(t, c), keys)
	cli := client(t, c)
	want := stored(t, truth(t, c), prefix)
	for range 3 {
		r := replica{}
		if n := listAll(t, listWatch(t, cli, prefix, clientv3.WithPrefix()), r)[etcdcall.Listed]; n != keys || !maps.Equal(r, want) {
			t.Errorf("%d events were listed, want %d", n, keys)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the server was asked for %d streams, want 1", n)
	}
}

// staged is a KV whose first stream is told differently.
type staged struct {
	clientv3.KV
	streams atomic.Int64
	tell    func(chunk clientv3.RangeStreamResponse) (_ clientv3.RangeStreamResponse, ok bool)
}

func (s *staged) GetStream(ctx context.Context, key string, opts ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	chunks, err := s.KV.GetStream(ctx, key, opts...)
	if err != nil || s.streams.Add(1) > 1 {
		return chunks, err
	}
	told := make(chan clientv3.RangeStreamResponse, 1)
	go func() {
		defer close(told)
		for chunk := range chunks {
			if chunk, ok := s.tell(chunk); ok {
				told <- chunk
			}
		}
	}()
	return told, nil
}

func TestAListBelievesAStreamOnlyWhenItHasEndedAsItShould(t *testing.T) {
	t.Parallel()
	const keys = 3000
	for name, test := range map[string]struct {
		tell func(chunk clientv3.RangeStreamResponse) (clientv3.RangeStreamResponse, bool)
		want map[etcdcall.Origin]int
	}{
		"the store of the stream is another": {
			func(chunk clientv3.RangeStreamResponse) (clientv3.RangeStreamResponse, bool) {
				if chunk.Header != nil {
					chunk.Header.ClusterId++
				}
				return chunk, true
			},
			map[etcdcall.Origin]int{etcdcall.Listed: keys, etcdcall.Resynced: keys},
		},
		"the end is missing": {
			func(chunk clientv3.RangeStreamResponse) (clientv3.RangeStreamResponse, bool) {
				return chunk, chunk.Header == nil
			},
			map[etcdcall.Origin]int{etcdcall.Listed: keys},
		},
		"there is more": {
			func(chunk clientv3.RangeStreamResponse) (clientv3.RangeStreamResponse, bool) {
				if chunk.Header != nil {
					chunk.Kvs, chunk.More = chunk.Kvs[:1], true
				}
				return chunk, true
			},
			map[etcdcall.Origin]int{etcdcall.Listed: keys},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := etcdtest.New(t)
			fill(t, truth(t, c), keys)
			cli := client(t, c)
			l, err := etcdcall.NewListWatchOf(t.Context(), &staged{KV: cli.KV, tell: test.tell}, cli.Watcher, prefix, clientv3.WithPrefix())
			must(t, err)
			t.Cleanup(l.Stop)
			r, n := replica{}, map[etcdcall.Origin]int{}
			for l.Revision() == 0 {
				c, err := l.Next(soon(t))
				must(t, err)
				r.apply(c.Events)
				n[c.Origin] += len(c.Events)
			}
			if !maps.Equal(n, test.want) || !maps.Equal(r, stored(t, truth(t, c), prefix)) {
				t.Errorf("got events by origin %v, want %v", n, test.want)
			}
		})
	}
}

// TestAListThatIsLeftLeavesNoStream relies on goleak.
func TestAListThatIsLeftLeavesNoStream(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	fill(t, truth(t, c), 6000)
	cli := client(t, c)
	for parts := range 5 {
		l := listWatch(t, cli, prefix, clientv3.WithPrefix())
		for range parts {
			if c, err := l.Next(soon(t)); err != nil || !c.More {
				t.Fatalf("the list ended early: %v, %v", c, err)
			}
		}
		l.Stop()
	}
	// A reader that goes away does not end the stream.
	l, r := listWatch(t, cli, prefix, clientv3.WithPrefix()), replica{}
	gone, leave := context.WithCancel(t.Context())
	leave()
	for l.Revision() == 0 {
		if c, err := l.Next(gone); err == nil {
			r.apply(c.Events)
			continue
		}
		c, err := l.Next(soon(t))
		must(t, err)
		r.apply(c.Events)
	}
	if !maps.Equal(r, stored(t, truth(t, c), prefix)) {
		t.Errorf("the copy differs from the store: %d keys", len(r))
	}
}
