package etcdcall

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrIdentityLost is found by errors.Is in the [AmbiguousError] of an
// exactly-once write whose record is gone: the client's lease expired or was
// revoked, or somebody deleted the record. The client's next write gets a new
// identity by itself.
var ErrIdentityLost = errors.New("etcdcall: the identity that records exactly-once writes was lost")

// ResponseLostError reports an exactly-once write that was applied, once, and
// whose response cannot be given: the answer to the attempt that applied it was
// lost, and rebuilding it failed. Its outcome is [Applied].
type ResponseLostError struct {
	// Method is the full gRPC method of the write.
	Method string
	// Revision is the revision of the store at which the write was applied.
	Revision int64
	// Succeeded says which branch was taken, if the write was a transaction.
	Succeeded bool
	// Err is why the response could not be rebuilt: often
	// rpctypes.ErrCompacted, since the state before the write is needed.
	Err error
}

// Error says that the write happened, where, and what is missing.
func (e *ResponseLostError) Error() string {
	return fmt.Sprintf("etcdcall: %s was applied at revision %d, but its response is lost: %v", e.Method, e.Revision, e.Err)
}

// Unwrap returns why the response could not be rebuilt.
func (e *ResponseLostError) Unwrap() error { return e.Err }

// Outcome returns Applied.
func (e *ResponseLostError) Outcome() Outcome { return Applied }

// ReservedKeyError reports a write that was refused, without being sent,
// because it would change keys under the prefix of [WithExactlyOnce].
type ReservedKeyError struct {
	// Key is the key, or where the range of a delete begins.
	Key string
	// RangeEnd is where the range of a delete ends, in the encoding of etcd.
	RangeEnd string
	// Prefix is the prefix under which the client keeps its records.
	Prefix string
}

// Error names the key or range and the prefix.
func (e *ReservedKeyError) Error() string {
	what := fmt.Sprintf("key %q", e.Key)
	if e.RangeEnd != "" {
		what = fmt.Sprintf("range %q to %q", e.Key, e.RangeEnd)
	}
	return fmt.Sprintf("etcdcall: a write to %s is refused: it touches the records of exactly-once writes under %q", what, e.Prefix)
}

// Outcome returns NotApplied.
func (e *ReservedKeyError) Outcome() Outcome { return NotApplied }

// GRPCStatus returns an INVALID_ARGUMENT with the message of Error.
func (e *ReservedKeyError) GRPCStatus() *status.Status {
	return status.New(codes.InvalidArgument, e.Error())
}

// TxnSizeError reports a transaction for which the server's limit of operations
// leaves no room once the record of [WithExactlyOnce] is added. errors.Is finds
// rpctypes.ErrTooManyOps.
type TxnSizeError struct {
	// Operations is the size of the user's transaction as the server counts
	// it: the longest of comparisons, Then and Else, nested ones added.
	Operations int
	// Reserved is what the record adds to it.
	Reserved int
}

// Error says how much room there is.
func (e *TxnSizeError) Error() string {
	return fmt.Sprintf("etcdcall: a transaction of %d operations needs %d with the record of WithExactlyOnce: "+
		"of the 128 that a server allows by default, 127 remain without comparisons and 126 with them, and one less for each level of nesting",
		e.Operations, e.Operations+e.Reserved)
}

// Unwrap returns rpctypes.ErrTooManyOps.
func (e *TxnSizeError) Unwrap() error { return rpctypes.ErrTooManyOps }

// Outcome returns NotApplied.
func (e *TxnSizeError) Outcome() Outcome { return NotApplied }

// GRPCStatus returns the status of rpctypes.ErrTooManyOps.
func (e *TxnSizeError) GRPCStatus() *status.Status {
	return status.New(codes.InvalidArgument, rpctypes.ErrorDesc(rpctypes.ErrGRPCTooManyOps))
}
