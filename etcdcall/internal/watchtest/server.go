// Package watchtest has a server of watches, for the tests of what watches.
package watchtest

import (
	"context"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// Server is a pb.WatchClient that accepts every watch and answers every request,
// without a network and so in virtual time. What it does beyond that, tests tell it to
// by the methods of [Stream].
type Server struct {
	// Ignores says which requests are not answered. It may be nil.
	Ignores func(*pb.WatchRequest) bool
	// Open is called before a stream opens, with its number from 1 on. It may be nil.
	Open func(ctx context.Context, n int) error

	mu      sync.Mutex
	cluster uint64
	rev     int64
	streams []*Stream
}

// NewServer returns a server of cluster 1 whose store is at a revision.
func NewServer(revision int64) *Server { return &Server{cluster: 1, rev: revision} }

// Header is that of what the server answers now.
func (s *Server) Header() *pb.ResponseHeader {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.header()
}

func (s *Server) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: s.cluster, Revision: s.rev}
}

// Become makes the server one of another cluster, or at another revision.
func (s *Server) Become(cluster uint64, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cluster, s.rev = cluster, revision
}

// Streams returns all streams that were ever opened.
func (s *Server) Streams() []*Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.streams)
}

// Last is the stream that was opened last.
func (s *Server) Last() *Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[len(s.streams)-1]
}

// Watch implements pb.WatchClient.
func (s *Server) Watch(ctx context.Context, _ ...grpc.CallOption) (grpc.BidiStreamingClient[pb.WatchRequest, pb.WatchResponse], error) {
	s.mu.Lock()
	st := &Stream{ctx: ctx, server: s, answers: make(chan *pb.WatchResponse, 1000), broken: make(chan error, 1), opened: time.Now()}
	s.streams = append(s.streams, st)
	n := len(s.streams)
	s.mu.Unlock()
	if s.Open != nil {
		if err := s.Open(ctx, n); err != nil {
			return nil, err
		}
	}
	return st, nil
}

// Stream is a stream of watches.
type Stream struct {
	grpc.ClientStream

	ctx     context.Context //nolint:containedctx // that of the call
	server  *Server
	answers chan *pb.WatchResponse
	broken  chan error
	opened  time.Time

	// The server guards these.
	created         []*pb.WatchCreateRequest
	cancelled       []int64
	progress, signs int
}

// Opened is when the stream was opened.
func (st *Stream) Opened() time.Time { return st.opened }

// Ended reports whether the client has ended the stream.
func (st *Stream) Ended() bool { return st.ctx.Err() != nil }

// Created returns what was asked for.
func (st *Stream) Created() []*pb.WatchCreateRequest {
	st.server.mu.Lock()
	defer st.server.mu.Unlock()
	return slices.Clone(st.created)
}

// Cancelled returns the numbers of the watches that were asked for no more.
func (st *Stream) Cancelled() []int64 {
	st.server.mu.Lock()
	defer st.server.mu.Unlock()
	return slices.Clone(st.cancelled)
}

// Asked returns how many times progress was asked for, and how many times a sign of
// life by a watch that no server grants.
func (st *Stream) Asked() (progress, signs int) {
	st.server.mu.Lock()
	defer st.server.mu.Unlock()
	return st.progress, st.signs
}

// Answer sends something to the client.
func (st *Stream) Answer(r *pb.WatchResponse) { st.answers <- r }

// Tell sends events to the watch with the number id. The store is then at their
// revision, if that is later than its own.
func (st *Stream) Tell(id int64, events ...*clientv3.Event) {
	s := st.server
	s.mu.Lock()
	s.rev = max(s.rev, events[len(events)-1].Kv.ModRevision)
	header := s.header()
	s.mu.Unlock()
	st.Answer(&pb.WatchResponse{WatchId: id, Events: events, Header: header})
}

// Break ends the stream with err, once its answers have been received.
func (st *Stream) Break(err error) { st.broken <- err }

// Send implements grpc.BidiStreamingClient.
func (st *Stream) Send(req *pb.WatchRequest) error {
	s := st.server
	answered := s.Ignores == nil || !s.Ignores(req)
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &pb.WatchResponse{Header: s.header()}
	switch r := req.RequestUnion.(type) {
	case *pb.WatchRequest_CreateRequest:
		answer.Created, answer.WatchId = true, r.CreateRequest.WatchId
		if r.CreateRequest.StartRevision < 0 {
			st.signs++
			answer.Canceled = true
		} else {
			st.created = append(st.created, r.CreateRequest)
		}
	case *pb.WatchRequest_CancelRequest:
		st.cancelled = append(st.cancelled, r.CancelRequest.WatchId)
		answer.Canceled, answer.WatchId = true, r.CancelRequest.WatchId
	case *pb.WatchRequest_ProgressRequest:
		st.progress++
		answer.WatchId = clientv3.InvalidWatchID
	}
	if answered {
		st.Answer(answer)
	}
	return nil
}

// Recv implements grpc.BidiStreamingClient.
func (st *Stream) Recv() (*pb.WatchResponse, error) {
	select {
	case r := <-st.answers:
		return r, nil
	default:
	}
	select {
	case r := <-st.answers:
		return r, nil
	case err := <-st.broken:
		return nil, err
	case <-st.ctx.Done():
		return nil, st.ctx.Err()
	}
}
