package etcdcall

import (
	"context"
	"errors"
	"fmt"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/internal/completion"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// onceWriter makes writes exactly once. It hands those for which that is
// switched off to another writer.
type onceWriter struct {
	*keeper
	blind writer
	end   string // of the prefix
}

func newOnceWriter(p *policy, kv pb.KVClient, lease pb.LeaseClient, blind writer) *onceWriter {
	return &onceWriter{
		keeper: newKeeper(p, kv, lease),
		blind:  blind,
		end:    endOf(p.once.prefix),
	}
}

// onceCall is one exactly-once write: the user's transaction, the slot that
// serves it, and the request that is sent, the same in every attempt.
type onceCall struct {
	method string
	slot   *slot
	write  completion.Write
	req    *pb.TxnRequest

	// open is the last error of an attempt that may have been applied or may
	// still be.
	open error
	// inFlight says that an attempt may still be on its way to being applied.
	inFlight bool
}

func newOnceCall(method string, user *pb.TxnRequest, s *slot) *onceCall {
	s.seq++
	return &onceCall{method: method, slot: s, write: completion.Write{Txn: user, Slot: s.key, Lease: s.id.lease, Seq: s.seq}}
}

// attempt sends the request once, if the identity still allows it, and notes
// whether the outcome stays open.
func (c *onceCall) attempt(ctx context.Context, send unaryStub[pb.TxnRequest, pb.TxnResponse], opts []grpc.CallOption) (resp *pb.TxnResponse, err error) {
	if err := c.slot.id.state(); err != nil {
		return nil, err
	}
	resp, err = send(ctx, c.req, opts...)
	if err != nil && OutcomeOf(err) != NotApplied {
		c.open = err
		// A server that is out of space has finished with the request.
		c.inFlight = c.inFlight || !errors.Is(err, rpctypes.ErrNoSpace)
	}
	return resp, err
}

func (w *onceWriter) put(ctx context.Context, req *pb.PutRequest) (*pb.PutResponse, error) {
	if !w.once.wanted(ctx) {
		return w.blind.put(ctx, req)
	}
	resp, err := w.single(ctx, pb.KV_Put_FullMethodName, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: req}})
	if err != nil {
		return nil, err
	}
	put := resp.GetResponses()[0].GetResponsePut()
	put.Header = resp.GetHeader()
	return put, nil
}

func (w *onceWriter) deleteRange(ctx context.Context, req *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	if !w.once.wanted(ctx) {
		return w.blind.deleteRange(ctx, req)
	}
	resp, err := w.single(ctx, pb.KV_DeleteRange_FullMethodName, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: req}})
	if err != nil {
		return nil, err
	}
	deleted := resp.GetResponses()[0].GetResponseDeleteRange()
	deleted.Header = resp.GetHeader()
	return deleted, nil
}

// single makes a transaction of one operation. Its response has one too.
func (w *onceWriter) single(ctx context.Context, method string, op *pb.RequestOp) (*pb.TxnResponse, error) {
	return w.write(ctx, method, &pb.TxnRequest{Success: []*pb.RequestOp{op}})
}

var errMisshapen = errors.New("the server's response does not have the shape of the request")

func (w *onceWriter) txn(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	if !w.once.wanted(ctx) {
		return w.blind.txn(ctx, req)
	}
	return w.write(ctx, pb.KV_Txn_FullMethodName, req)
}

// identityTries is how many identities may be lost from under a call, each
// before the call had an effect, until it gives up.
const identityTries = 3

// write makes the user's transaction exactly once.
func (w *onceWriter) write(ctx context.Context, method string, user *pb.TxnRequest) (*pb.TxnResponse, error) {
	if ctx == nil {
		return nil, &reprise.ArgumentError{Func: "etcdcall", Problem: "the context is nil"}
	}
	if err := reserved(user, w.once.prefix, w.end); err != nil {
		return nil, err
	}
	for tries := 1; ; tries++ {
		s, err := w.acquire(ctx)
		if err != nil {
			return nil, err
		}
		c := newOnceCall(method, user, s)
		c.req = c.write.Request()
		resp, err := w.guarded.call(ctx, c)
		if err == nil {
			return w.answered(ctx, c, resp)
		}
		if c.open == nil && errors.Is(err, errIdentityGone) && tries < identityTries {
			continue
		}
		return w.failed(ctx, c, err)
	}
}

// answered ends a call whose guarded transaction was answered.
func (w *onceWriter) answered(ctx context.Context, c *onceCall, resp *pb.TxnResponse) (*pb.TxnResponse, error) {
	if resp.GetSucceeded() {
		w.release(c.slot)
		out, ok := c.write.Response(c.req, resp)
		if !ok {
			return nil, &ResponseLostError{
				Method: c.method, Revision: resp.GetHeader().GetRevision(),
				Succeeded: c.write.Flat(), Err: errMisshapen,
			}
		}
		return out, nil
	}
	return w.settle(ctx, c, nil)
}

// settle ends a call whose guard was false, or which no attempt can change any
// more: the slot tells what became of it. The refusal is the error to return
// if it was not applied.
func (w *onceWriter) settle(ctx context.Context, c *onceCall, refusal error) (*pb.TxnResponse, error) {
	f, header, err := w.look(ctx, c)
	if err != nil {
		if c.open == nil {
			c.open = err
		}
		return nil, w.abandoned(c, err)
	}
	switch {
	case f.State == completion.Lost:
		return nil, w.lost(c)
	case f.State == completion.Applied:
		w.release(c.slot)
		return w.recover(ctx, c, f, header)
	case refusal != nil:
		w.release(c.slot)
		return nil, refusal
	default:
		// The guard was true for such a slot, so it is not the one it was.
		return nil, w.lost(c)
	}
}

// lost ends a call whose slot is missing. Whether it was applied, nobody can
// say: the record may have gone together with the slot.
func (w *onceWriter) lost(c *onceCall) error {
	c.slot.id.lose()
	err := ErrIdentityLost
	if c.open != nil {
		err = fmt.Errorf("%w: %w", ErrIdentityLost, c.open)
	}
	return &AmbiguousError{Method: c.method, Err: err}
}

// recover gives the response of a call that an earlier attempt applied.
func (w *onceWriter) recover(ctx context.Context, c *onceCall, f completion.Found, header *pb.ResponseHeader) (*pb.TxnResponse, error) {
	resp, err := c.write.Replay(ctx, f, func(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
		return w.fetch.call(ctx, req)
	})
	if err != nil {
		return nil, &ResponseLostError{Method: c.method, Revision: f.Revision, Succeeded: f.Succeeded, Err: readError(err)}
	}
	resp.Header = &pb.ResponseHeader{
		ClusterId: header.GetClusterId(), MemberId: header.GetMemberId(),
		RaftTerm: header.GetRaftTerm(), Revision: f.Revision,
	}
	return resp, nil
}

// failed ends a call whose attempts all failed.
func (w *onceWriter) failed(ctx context.Context, c *onceCall, err error) (*pb.TxnResponse, error) {
	if _, stopped := errors.AsType[*reprise.Error](err); stopped || errors.Is(err, errIdentityGone) {
		return nil, w.abandoned(c, err)
	}
	refusal := c.refused(err)
	if c.open == nil && !passing(err) {
		w.release(c.slot)
		return nil, refusal
	}
	return w.seal(ctx, c, err, refusal)
}

// abandoned ends a call that ran out of time, or lost its identity.
func (w *onceWriter) abandoned(c *onceCall, err error) error {
	if c.open == nil {
		w.release(c.slot)
		return &notAppliedError{err: err}
	}
	if errors.Is(err, errIdentityGone) {
		return w.lost(c)
	}
	w.retire(c.slot)
	return &AmbiguousError{Method: c.method, Err: err}
}

// refused is the error of a call that the server refused.
func (c *onceCall) refused(err error) error {
	if errors.Is(err, rpctypes.ErrTooManyOps) {
		size := completion.Size(c.write.Txn)
		return &TxnSizeError{Operations: size, Reserved: completion.Size(c.req) - size}
	}
	if plain := readError(err); OutcomeOf(plain) == NotApplied {
		return plain
	}
	return &notAppliedError{err: err}
}

// passing reports whether the server refused a request for what the store held
// at that moment: the same request might get through later, so it has to be
// made sure that no copy of it does. A missing lease may also be that of the
// identity, which says nothing about the user's.
func passing(err error) bool {
	return errors.Is(err, rpctypes.ErrLeaseNotFound) || errors.Is(err, rpctypes.ErrKeyNotFound)
}

// seal ends a call that the server refused after attempts whose outcome is
// open, or for a passing reason: it puts the call's number into the slot, so
// that no attempt can be applied any more, or learns that one was.
func (w *onceWriter) seal(ctx context.Context, c *onceCall, err, refusal error) (*pb.TxnResponse, error) {
	if c.open == nil {
		c.open = err
	}
	c.req = c.write.Seal()
	resp, sealErr := w.guarded.call(ctx, c)
	switch {
	case sealErr == nil && resp.GetSucceeded():
		w.release(c.slot)
		return nil, refusal
	case sealErr == nil:
		return w.settle(ctx, c, refusal)
	case errors.Is(sealErr, rpctypes.ErrLeaseNotFound) || errors.Is(sealErr, errIdentityGone):
		return nil, w.lost(c)
	case errors.Is(sealErr, rpctypes.ErrNoSpace) && !c.inFlight:
		// A seal is refused as well; but with no attempt under way, what the
		// slot holds stays true.
		return w.settle(ctx, c, refusal)
	default:
		return nil, w.abandoned(c, err)
	}
}
