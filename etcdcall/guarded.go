package etcdcall

import (
	"bytes"
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/reprise-go/reprise/etcdcall/internal/keyrange"
)

// errGuardLost is in the AmbiguousError of a guarded transaction that was sent
// again and found its guard broken: by itself or by somebody else.
var errGuardLost = errors.New("a later attempt found the guard of the transaction broken, perhaps by the transaction itself")

// isGuarded reports whether applying req twice is impossible: it writes only if
// a key has a revision that no key can have again once it has written.
//
// That holds if one comparison says "the revision of this key is R", R > 0, and
// the branch taken then changes that revision: the modification revision by any
// put or delete of the key, the creation revision by its delete. Revisions never
// come back, so neither a second attempt nor a first one that is committed late
// can pass the comparison again. Comparisons with Version or with revision 0
// guard nothing here: somebody may delete the key, and make them true again.
func isGuarded(req *pb.TxnRequest) bool {
	for _, op := range req.GetFailure() {
		if effectOfOp(op) == writes {
			return false
		}
	}
	for _, c := range req.GetCompare() {
		if guards(c, req.GetSuccess()) {
			return true
		}
	}
	return false
}

func guards(c *pb.Compare, ops []*pb.RequestOp) bool {
	if c.GetResult() != pb.Compare_EQUAL || len(c.GetRangeEnd()) > 0 {
		return false
	}
	byMod := c.GetTarget() == pb.Compare_MOD && c.GetModRevision() > 0
	byCreate := c.GetTarget() == pb.Compare_CREATE && c.GetCreateRevision() > 0
	if !byMod && !byCreate {
		return false
	}
	for _, op := range ops {
		if del := op.GetRequestDeleteRange(); del != nil && keyrange.Contains(del.GetKey(), del.GetRangeEnd(), c.GetKey()) {
			return true
		}
		if put := op.GetRequestPut(); byMod && put != nil && bytes.Equal(put.GetKey(), c.GetKey()) {
			return true
		}
	}
	return false
}

// guardedTxn sends a transaction for which isGuarded holds again even after an
// attempt of unknown outcome. If it then succeeds, it was applied by that
// attempt and no other. If its guard does not hold, who broke it is unknown.
func guardedTxn(ctx context.Context, b *bound[pb.TxnRequest, pb.TxnResponse], req *pb.TxnRequest) (*pb.TxnResponse, error) {
	var s suspense
	resp, err := b.twiceIn(ctx, req, &s, nil, nil)
	if err == nil && s.since != nil && !resp.GetSucceeded() {
		return nil, &AmbiguousError{Method: b.method, Err: errors.Join(s.since, errGuardLost)}
	}
	return resp, err
}
