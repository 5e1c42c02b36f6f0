package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/etcdstub"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// streamer streams the keys of a store as servers do, and breaks its streams as
// fails says. The store is at another revision with each stream.
type streamer struct {
	pb.KVClient
	keys     []string
	revision int64 // of the store
	cluster  uint64
	streams  int
	requests []*pb.RangeRequest
	// fails returns the error with which stream n ends in place of its chunk,
	// which is the last of it or not; nil if that is sent.
	fails func(n, chunk int, last bool) error
}

func (s *streamer) RangeStream(ctx context.Context, req *pb.RangeRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[pb.RangeStreamResponse], error) {
	s.streams++
	s.revision += 5
	s.requests = append(s.requests, req)
	from, _ := slices.BinarySearch(s.keys, string(req.GetKey()))
	left := s.keys[from:]
	limit := len(left)
	if req.GetLimit() > 0 {
		limit = min(limit, int(req.GetLimit()))
	}
	header := &pb.ResponseHeader{ClusterId: s.cluster, Revision: s.revision}
	stream := &scriptedStream{ctx: ctx}
	for chunk, size := 0, firstPage; ; chunk++ {
		n := min(size, limit)
		last := n == limit
		if err := s.fails(s.streams, chunk, last); err != nil {
			stream.end = err
			return stream, nil
		}
		r := &pb.RangeResponse{}
		for _, key := range left[:n] {
			r.Kvs = append(r.Kvs, &mvccpb.KeyValue{Key: []byte(key), Version: req.GetRevision()})
		}
		if last {
			r.Header, r.Count, r.More = header, int64(len(s.keys)-from), n < len(left)
		}
		stream.chunks = append(stream.chunks, &pb.RangeStreamResponse{RangeResponse: r})
		if last {
			stream.end = io.EOF
			return stream, nil
		}
		left, limit, size = left[n:], limit-n, 2*size
	}
}

type scriptedStream struct {
	grpc.ClientStream
	ctx    context.Context
	chunks []*pb.RangeStreamResponse
	end    error
}

func (s *scriptedStream) RecvMsg(m any) error {
	chunk, err := s.Recv()
	if err == nil {
		*m.(*pb.RangeStreamResponse) = pb.RangeStreamResponse{RangeResponse: chunk.GetRangeResponse()}
	}
	return err
}

func (s *scriptedStream) Context() context.Context { return s.ctx }

func (s *scriptedStream) Recv() (*pb.RangeStreamResponse, error) {
	if len(s.chunks) == 0 {
		return nil, s.end
	}
	chunk := s.chunks[0]
	s.chunks = s.chunks[1:]
	return chunk, nil
}

// scanAll reads a scan to its end, in a bubble.
func scanAll(ctx context.Context, s *streamer, req *pb.RangeRequest) (keys []string, last *pb.RangeResponse, err error) {
	passes := func(err error) bool { return slices.Contains(passingFailures, err) }
	client := etcdstub.NewKVClient(s, &etcdstub.KVCallOptions{RangeStream: []reprise.CallOption{
		reprise.WithRetry(func() reprise.Retryer { return reprise.OnErrorFunc(reprise.Backoff{}, passes) }),
	}})
	sc, err := New(ctx, req, func(ctx context.Context, req *pb.RangeRequest) (grpc.ServerStreamingClient[pb.RangeStreamResponse], error) {
		return client.RangeStream(ctx, req)
	}, passes)
	if err != nil {
		return nil, nil, err
	}
	for {
		chunk, err := sc.Recv()
		if errors.Is(err, io.EOF) {
			return keys, last, nil
		}
		if err != nil {
			return keys, last, err
		}
		if last != nil {
			return keys, last, errors.New("a chunk follows the last")
		}
		r := chunk.GetRangeResponse()
		for _, kv := range r.GetKvs() {
			keys = append(keys, string(kv.GetKey()))
		}
		if r.GetHeader() != nil {
			last = r
		} else if r.GetMore() || r.GetCount() != 0 {
			return keys, last, errors.New("a chunk that is not the last has what only that has")
		}
	}
}

func keysUpTo(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("k%05d", i)
	}
	return keys
}

var passingFailures = []error{
	status.Error(codes.Unavailable, "reset"),
	status.Error(codes.Internal, "broken frame"),
	rpctypes.ErrGRPCNoLeader,
	rpctypes.ErrGRPCStopped,
}

func TestAScanThatBreaksAnywhereIsOneRangeOfOneRevision(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			s := &streamer{keys: keysUpTo(rnd.IntN(300)), revision: 100}
			broken := 0
			s.fails = func(int, int, bool) error {
				if broken < 8 && rnd.IntN(3) == 0 {
					broken++
					return passingFailures[rnd.IntN(len(passingFailures))]
				}
				return nil
			}
			req := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
			if rnd.IntN(2) == 0 {
				req.Limit = int64(rnd.IntN(len(s.keys) + 2))
			}
			if rnd.IntN(2) == 0 {
				req.Revision = 70
			}
			want := s.keys
			if req.GetLimit() > 0 {
				want = want[:min(len(want), int(req.GetLimit()))]
			}
			keys, last, err := scanAll(t.Context(), s, req)
			if err != nil || !slices.Equal(keys, want) {
				t.Fatalf("seed %d: %d keys of %d, %v", seed, len(keys), len(want), err)
			}
			if last.GetCount() != int64(len(s.keys)) || last.GetMore() != (len(want) < len(s.keys)) {
				t.Errorf("seed %d: count %d, more %v, with %d of %d keys", seed, last.GetCount(), last.GetMore(), len(want), len(s.keys))
			}
			checkRevisions(t, s, req, last)
		})
	}
}

// checkRevisions checks that all that came was of one revision.
func checkRevisions(t *testing.T, s *streamer, req *pb.RangeRequest, last *pb.RangeResponse) {
	t.Helper()
	pinned := req.GetRevision()
	for i, r := range s.requests {
		switch {
		case pinned != 0 && r.GetRevision() != pinned:
			t.Errorf("stream %d asked for revision %d, want %d", i, r.GetRevision(), pinned)
		case r.GetRevision() != 0:
			pinned = r.GetRevision()
		case string(r.GetKey()) != string(req.GetKey()):
			t.Errorf("stream %d goes on at an unknown revision", i)
		}
	}
	if got := last.GetHeader().GetRevision(); req.GetRevision() == 0 && pinned != 0 && got != pinned {
		t.Errorf("the header has revision %d, the keys are of %d", got, pinned)
	}
}

func TestAScanEndsWithWhatDoesNotPass(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fails   func(s *streamer, n, chunk int) error
		keys    int
		streams int
		want    error
	}{
		"compacted before it goes on": {
			func(_ *streamer, n, chunk int) error {
				if n == 2 && chunk == 1 {
					return passingFailures[0]
				}
				if n > 2 {
					return rpctypes.ErrGRPCCompacted
				}
				return nil
			}, 2 * firstPage, 3, rpctypes.ErrGRPCCompacted,
		},
		"refused in the middle": {
			func(_ *streamer, n, chunk int) error {
				if n == 2 && chunk == 1 {
					return rpctypes.ErrGRPCPermissionDenied
				}
				return nil
			}, 2 * firstPage, 2, rpctypes.ErrGRPCPermissionDenied,
		},
		"refused at once": {
			func(*streamer, int, int) error { return status.Error(codes.Unimplemented, "sorted") },
			0, 1, status.Error(codes.Unimplemented, "sorted"),
		},
		"another cluster": {
			func(s *streamer, n, _ int) error {
				s.cluster = uint64(n)
				return nil
			}, 2 * firstPage, 2, errOtherCluster,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &streamer{keys: keysUpTo(4 * firstPage), revision: 100}
				s.fails = func(n, chunk int, _ bool) error { return c.fails(s, n, chunk) }
				keys, _, err := scanAll(t.Context(), s, &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
				if !errors.Is(err, c.want) || s.streams != c.streams || len(keys) != c.keys || !slices.IsSorted(keys) {
					t.Errorf("%d streams, %d keys, %v", s.streams, len(keys), err)
				}
			})
		})
	}
}

func TestAScanOfFewKeysIsOneStream(t *testing.T) {
	t.Parallel()
	for name, req := range map[string]*pb.RangeRequest{
		"as many as a page": {Key: []byte("k"), RangeEnd: []byte("l")},
		"a small limit":     {Key: []byte("k"), RangeEnd: []byte("l"), Limit: 3},
		"a count":           {Key: []byte("k"), RangeEnd: []byte("l"), CountOnly: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &streamer{keys: keysUpTo(firstPage), fails: func(int, int, bool) error { return nil }}
			if _, _, err := scanAll(t.Context(), s, req); err != nil || s.streams != 1 {
				t.Errorf("%s: %d streams, %v", name, s.streams, err)
			}
			if name == "a count" && s.requests[0].GetLimit() != 0 {
				t.Error("a count was limited")
			}
		})
	}
}

func TestAScanThatIsGivenUpIsNotGoneOnWith(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &streamer{keys: keysUpTo(100)}
		s.fails = func(n, chunk int, _ bool) error {
			if n == 2 && chunk == 1 {
				cancel()
				return status.FromContextError(context.Canceled).Err()
			}
			return nil
		}
		if _, _, err := scanAll(ctx, s, &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}); err == nil || s.streams > 3 {
			t.Errorf("%d streams, %v", s.streams, err)
		}
	})
}
