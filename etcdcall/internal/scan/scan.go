// Package scan streams a range of keys whole, by one stream after another if they
// break.
package scan

import (
	"bytes"
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// firstPage is how many keys are asked for before the revision of a scan is
// known. It is the size of the first chunk that a server sends by itself.
const firstPage = 10

// Scan is a range that is streamed, by one stream after another if they break.
//
// Servers send the keys in order, and refuse to stream in any other; a stream
// can thus go on after the last key that came, at the same revision. But only
// the last chunk of a stream has a header, which tells the revision. So where
// the request names none, the first few keys come by a stream that ends after
// them, and the rest at the revision of that.
//
// The streams open themselves again, until their first chunk has come, and each that
// breaks after that has brought some keys.
type Scan struct {
	grpc.ServerStreamingClient[pb.RangeStreamResponse] // the one that is open

	ctx      context.Context //nolint:containedctx // that of the call, which opens further streams
	open     Open
	followed func(err error) bool
	request  *pb.RangeRequest // for the keys that are missing yet

	limit  int64              // of keys; 0 for none
	got    int64              // keys
	before int64              // of them, how many came before the stream that is open
	page   *pb.ResponseHeader // of the first page, where the request named no revision
	paged  bool               // the open stream ends after the first page
	turned bool               // the first page has come; the next stream brings the rest
	done   bool               // the last chunk has come
}

// errOtherCluster ends a scan whose parts would not be of one store.
var errOtherCluster = status.Error(codes.Aborted, "etcdcall: another cluster answers than the one whose keys came first")

// Open opens a stream, which is tried again as long as nothing has come on it.
type Open func(ctx context.Context, req *pb.RangeRequest) (grpc.ServerStreamingClient[pb.RangeStreamResponse], error)

// New begins the scan that req asks for. Its streams live under ctx. followed says
// whether another stream may follow one that has ended with err after some keys.
func New(ctx context.Context, req *pb.RangeRequest, open Open, followed func(err error) bool) (*Scan, error) {
	s := &Scan{ctx: ctx, open: open, followed: followed, request: proto.CloneOf(req), limit: req.GetLimit()}
	// A count is one message, and the size of a page says nothing to a limit below it.
	s.paged = req.GetRevision() == 0 && !req.GetCountOnly() && (req.GetLimit() == 0 || req.GetLimit() > firstPage)
	return s, s.next()
}

// next opens a stream for what is missing.
func (s *Scan) next() error {
	req := proto.CloneOf(s.request)
	switch {
	case s.paged:
		req.Limit = firstPage
	case s.limit > 0:
		req.Limit = s.limit - s.got
	}
	s.before, s.turned = s.got, false
	stream, err := s.open(s.ctx, req)
	if err == nil {
		s.ServerStreamingClient = stream
	}
	return err
}

// Recv implements grpc.ServerStreamingClient.
func (s *Scan) Recv() (*pb.RangeStreamResponse, error) {
	for {
		chunk, err := s.ServerStreamingClient.Recv()
		switch {
		case err == nil:
			return s.received(chunk)
		case s.done:
			return nil, io.EOF
		case s.turned, s.got > s.before && s.resumable(err):
			if err := s.next(); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
}

// resumable reports whether a stream that has brought keys and then ended with
// err can be followed by another. One that brought none has been tried again.
func (s *Scan) resumable(err error) bool {
	if errors.Is(err, io.EOF) || s.request.GetRevision() == 0 || s.limit > 0 && s.got >= s.limit || s.ctx.Err() != nil {
		return false
	}
	return s.followed(err)
}

// received notes which keys came, and makes the chunk one of the whole.
func (s *Scan) received(chunk *pb.RangeStreamResponse) (*pb.RangeStreamResponse, error) {
	r := chunk.GetRangeResponse()
	if n := len(r.GetKvs()); n > 0 {
		s.request.Key = append(bytes.Clone(r.GetKvs()[n-1].GetKey()), 0)
		s.got += int64(n)
	}
	switch {
	case r.GetHeader() == nil:
		return chunk, nil
	case s.paged && r.GetMore():
		s.page, s.request.Revision = r.GetHeader(), r.GetHeader().GetRevision()
		s.paged, s.turned = false, true
		return &pb.RangeStreamResponse{RangeResponse: &pb.RangeResponse{Kvs: r.GetKvs()}}, nil
	case s.page != nil && s.page.GetClusterId() != r.GetHeader().GetClusterId():
		return nil, errOtherCluster
	default:
		s.done = true
		r.Count += s.before
		if s.page != nil {
			r.Header.Revision = s.page.GetRevision()
		}
		return chunk, nil
	}
}
