package etcdcall

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise/etcdcall/internal/watchtest"
)

// streamedKV answers the streams of a list one by one, beside its pages.
type streamedKV struct {
	pagedKV
	// What happens on each stream: a *pb.RangeResponse, an error, or how long
	// nothing does; after the last it ends.
	streams [][]any
	opened  []string
	lives   []context.Context //nolint:containedctx // they are looked at afterwards
}

// atOpening happens on a stream before it has opened.
type atOpening struct {
	err  error
	wait time.Duration
}

// GetStream implements clientv3.KV.
func (kv *streamedKV) GetStream(ctx context.Context, key string, opts ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	return clientv3.NewKVFromKVClient(&rangeStub{kv: kv}, nil).GetStream(ctx, key, opts...)
}

type rangeStub struct {
	pb.KVClient
	kv *streamedKV
}

// RangeStream implements pb.KVClient.
func (s *rangeStub) RangeStream(ctx context.Context, req *pb.RangeRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[pb.RangeStreamResponse], error) {
	_, patient := ctx.Deadline()
	s.kv.hasty = s.kv.hasty || !patient
	s.kv.opened = append(s.kv.opened, fmt.Sprintf("from %q to %q at %d", req.Key, req.RangeEnd, req.Revision))
	s.kv.lives = append(s.kv.lives, ctx)
	if len(s.kv.streams) == 0 {
		return nil, status.Error(codes.Aborted, "not expected")
	}
	happens := s.kv.streams[0]
	s.kv.streams = s.kv.streams[1:]
	if at, ok := happens[0].(atOpening); ok {
		happens = happens[1:]
		select {
		case <-time.After(at.wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if at.err != nil {
			return nil, at.err
		}
	}
	return &happening{ctx: ctx, happens: happens}, nil
}

type happening struct {
	grpc.ClientStream
	ctx     context.Context
	happens []any
}

// Recv implements grpc.ServerStreamingClient.
func (s *happening) Recv() (*pb.RangeStreamResponse, error) {
	for len(s.happens) > 0 {
		next := s.happens[0]
		s.happens = s.happens[1:]
		switch next := next.(type) {
		case *pb.RangeResponse:
			return &pb.RangeStreamResponse{RangeResponse: next}, nil
		case error:
			return nil, next
		case time.Duration:
			select {
			case <-time.After(next):
			case <-s.ctx.Done():
				return nil, s.ctx.Err()
			}
		}
	}
	return nil, io.EOF
}

// chunk is a part of a stream that others follow.
func chunk(keys ...listed) *pb.RangeResponse {
	r := lastChunk(0, false, keys...)
	r.Header = nil
	return r
}

// lastChunk is the last part of a stream.
func lastChunk(cluster uint64, more bool, keys ...listed) *pb.RangeResponse {
	return (*pb.RangeResponse)(page(cluster, 10, more, keys...))
}

// listOn returns a ListWatch of what kv has, on a server of watches.
func listOn(t *testing.T, s *watchtest.Server, kv clientv3.KV, key string, opts ...clientv3.OpOption) *ListWatch {
	t.Helper()
	l, err := NewListWatchOf(t.Context(), kv, watcherOn(t, s), key, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	return l
}

// TestAListGoesOnWhateverBecomesOfItsStream: its first page had a and b.
func TestAListGoesOnWhateverBecomesOfItsStream(t *testing.T) {
	t.Parallel()
	a, b, c, d, e := listed{"p/a", 5}, listed{"p/b", 6}, listed{"p/c", 7}, listed{"p/d", 8}, listed{"p/e", 9}
	unavailable := status.Error(codes.Unavailable, "reset")
	all := []string{"put p/c listed", "put p/d listed", "put p/e listed"}
	for name, test := range map[string]struct {
		streams [][]any
		pages   []any // after the first
		want    []string
		again   string // the key after which another stream begins
		took    time.Duration
		rev     int64 // if not 10
	}{
		"it ends as it should":  {streams: [][]any{{chunk(c, d), lastChunk(1, false, e)}}, want: all},
		"it is slow":            {streams: [][]any{{3 * time.Second, chunk(c, d), 3 * time.Second, lastChunk(1, false, e)}}, want: all, took: 6 * time.Second},
		"nothing is left on it": {streams: [][]any{{lastChunk(1, false)}}},
		"it ends early": {
			streams: [][]any{{chunk(c)}, {lastChunk(1, false, e)}}, pages: []any{page(1, 12, true, d)},
			want: all, again: "p/d",
		},
		"it ends with more to come": {
			streams: [][]any{{lastChunk(1, true, c)}, {lastChunk(1, false, e)}}, pages: []any{page(1, 12, true, d)},
			want: all, again: "p/d",
		},
		"it breaks": {
			streams: [][]any{{chunk(c), unavailable}, {lastChunk(1, false, e)}}, pages: []any{page(1, 12, true, d)},
			want: all, again: "p/d",
		},
		"it falls silent": {
			streams: [][]any{{chunk(c), time.Hour}, {lastChunk(1, false, e)}}, pages: []any{page(1, 12, true, d)},
			want: all, again: "p/d", took: 4 * time.Second,
		},
		"it does not open": {
			streams: [][]any{{atOpening{err: unavailable}}, {lastChunk(1, false, e)}}, pages: []any{page(1, 12, true, c, d)},
			want: all, again: "p/d",
		},
		"it takes too long to open": {
			streams: [][]any{{atOpening{wait: time.Hour}}, {lastChunk(1, false, e)}}, pages: []any{page(1, 12, true, c, d)},
			want: all, again: "p/d", took: 4 * time.Second,
		},
		"no stream can go on": {
			streams: [][]any{{chunk(c), status.Error(codes.ResourceExhausted, "grpc: received message larger than max (2 vs. 1)")}},
			pages:   []any{page(1, 12, true, d), page(1, 12, false, e)}, want: all,
		},
		"there are none": {
			streams: [][]any{{atOpening{err: status.Error(codes.Unimplemented, "unknown method")}}},
			pages:   []any{page(1, 12, true, c, d), page(1, 12, false, e)}, want: all,
		},
		"compaction overtakes it": {
			streams: [][]any{{chunk(c), rpctypes.ErrGRPCCompacted}, {lastChunk(1, false, e)}}, pages: []any{page(1, 12, true, a, b, c)},
			want: []string{"put p/c listed", "put p/e resynced"}, again: "p/c", rev: 12,
		},
		"the store went back": {
			streams: [][]any{{chunk(c), rpctypes.ErrGRPCFutureRev}, {lastChunk(1, false, e)}}, pages: []any{page(1, 8, true, a, b)},
			want:  []string{"put p/c listed", "put p/a resynced", "put p/b resynced", "put p/e resynced", "delete p/c resynced at 8"},
			again: "p/b", rev: 8,
		},
		"it is of another store": {
			streams: [][]any{{chunk(c), lastChunk(2, false, d)}}, pages: []any{page(2, 10, false, a, b, c)},
			want: []string{"put p/c listed", "put p/d listed", "put p/a resynced", "put p/b resynced", "put p/c resynced", "delete p/d resynced at 10"},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			kv := &streamedKV{pagedKV: pagedKV{answers: append([]any{page(1, 10, true, a, b)}, test.pages...)}, streams: test.streams}
			l := listOn(t, watchtest.NewServer(10), kv, "p/", clientv3.WithPrefix())
			began := time.Now()
			var got []string
			for l.Revision() == 0 {
				changes, err := l.Next(t.Context())
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got = append(got, told(changes)...)
			}
			if want := append([]string{"put p/a listed", "put p/b listed"}, test.want...); !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
			if took := time.Since(began); l.Revision() != cmp.Or(test.rev, 10) || took != test.took || kv.hasty {
				t.Errorf("%s: got to revision %d within %v, want %v; given up after a while: %v", name, l.Revision(), took, test.took, kv.hasty)
			}
			want := []string{`from "p/b\x00" to "p0" at 10`}
			if test.again != "" {
				want = append(want, fmt.Sprintf(`from "%s\x00" to "p0" at %d`, test.again, l.Revision()))
			}
			if !slices.Equal(kv.opened, want) || len(kv.answers) > 0 {
				t.Errorf("%s: the streams were opened %s, want %s; %d pages are left", name, kv.opened, want, len(kv.answers))
			}
			if none := name == "there are none"; l.noStreams.Load() != none {
				t.Errorf("%s: it is known that there are none: %v", name, !none)
			}
			synctest.Wait()
			for i, ctx := range kv.lives {
				if ctx.Err() == nil {
					t.Errorf("%s: stream %d is left open", name, i+1)
				}
			}
		})
	}
}

// TestTheEndOfARangeIsReadAgainAfterABreak: nothing follows the last key that came,
// but it may have come from another store.
func TestTheEndOfARangeIsReadAgainAfterABreak(t *testing.T) {
	t.Parallel()
	for end, want := range map[string]string{
		"p/b\x00": `from "p/b" to "p/b\x00" at 10`,
		"p/b\x01": `from "p/b\x00" to "p/b\x01" at 10`,
		"p/c":     `from "p/b\x00" to "p/c" at 10`,
		"\x00":    `from "p/b\x00" to "\x00" at 10`,
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := listed{"p/a", 5}, listed{"p/b", 6}
			kv := &streamedKV{pagedKV: pagedKV{answers: []any{page(1, 10, true, a), page(1, 10, false, b)}}, streams: [][]any{{chunk(b)}}}
			l := listOn(t, watchtest.NewServer(10), kv, "p/", clientv3.WithRange(end))
			var got []string
			for l.Revision() == 0 {
				changes, err := l.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, told(changes)...)
			}
			if !slices.Equal(got, []string{"put p/a listed", "put p/b listed"}) || kv.asked[1] != want {
				t.Errorf("up to %q: got %q, and asked %s, want %s", end, got, kv.asked[1], want)
			}
		})
	}
}

// TestAReaderThatGoesAwayLeavesTheStream, unless it is about to open.
func TestAReaderThatGoesAwayLeavesTheStream(t *testing.T) {
	t.Parallel()
	a, b, c := listed{"p/a", 5}, listed{"p/b", 6}, listed{"p/c", 7}
	for name, test := range map[string]struct {
		streams [][]any
		opened  int
		took    time.Duration // by the second reader
	}{
		"while it opens": {[][]any{{atOpening{wait: time.Hour}}, {chunk(b), lastChunk(1, false, c)}}, 2, 0},
		"while it waits": {[][]any{{2 * time.Second, chunk(b), 3 * time.Second, lastChunk(1, false, c)}}, 1, 4 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			kv := &streamedKV{pagedKV: pagedKV{answers: []any{page(1, 10, true, a)}}, streams: test.streams}
			l := listOn(t, watchtest.NewServer(10), kv, "p/", clientv3.WithPrefix())
			if _, err := l.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
			why := errors.New("the reason")
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
			defer cancel()
			began := time.Now()
			if _, err := l.Next(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, why) || time.Since(began) != time.Second || l.Err() != nil {
				t.Errorf("%s: got %v after %v, and the list ended with %v", name, err, time.Since(began), l.Err())
			}
			began = time.Now()
			var got []string
			for l.Revision() == 0 {
				reader, leave := context.WithCancel(t.Context())
				changes, err := l.Next(reader)
				leave()
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got = append(got, told(changes)...)
			}
			if !slices.Equal(got, []string{"put p/b listed", "put p/c listed"}) || len(kv.opened) != test.opened || len(kv.asked) != 1 {
				t.Errorf("%s: got %q on %d streams, with %d pages", name, got, len(kv.opened), len(kv.asked))
			}
			if took := time.Since(began); took != test.took {
				t.Errorf("%s: took %v, want %v", name, took, test.took)
			}
		})
	}
}

func TestWhetherThereAreStreamsIsKnownOfAllListsOfAClient(t *testing.T) {
	t.Parallel()
	own := &kv{}
	for name, other := range map[string]clientv3.KV{"its KV": own, "the client": &clientv3.Client{KV: own}} {
		if streamsOf(other) != &own.noStreams {
			t.Errorf("by %s it is not known", name)
		}
	}
	for name, other := range map[string]clientv3.KV{
		"no KV": nil, "no client": (*clientv3.Client)(nil), "nothing": (*kv)(nil), "another": &streamedKV{}, "the client of another": &clientv3.Client{KV: &streamedKV{}},
	} {
		if known := streamsOf(other); known == nil || known.Load() || known == streamsOf(other) {
			t.Errorf("of %s something is known", name)
		}
	}
}
