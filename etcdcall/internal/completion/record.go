package completion

import (
	"fmt"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A record is the value of a slot: the number of the last write that the slot
// served, as 16 hexadecimal digits, and a letter for what became of it. All
// values have the same width, so that comparing them as bytes, as etcd does,
// compares the numbers.
type record struct {
	seq  uint64
	mark byte
}

// The marks of records. They are greater than guardMark, so that a record is
// never less than the guard of its own number.
const (
	guardMark  = '0'
	markNew    = 'a' // the slot was just created
	markSealed = 'c' // no write of this number was applied, and none will be
	markElse   = 'e' // applied, Else branch
	markThen   = 't' // applied, Then branch or no branches
)

const recordWidth = 17

func (r record) bytes() []byte {
	b := make([]byte, recordWidth)
	const digits = "0123456789abcdef"
	for i, n := recordWidth-2, r.seq; i >= 0; i, n = i-1, n>>4 {
		b[i] = digits[n&15]
	}
	b[recordWidth-1] = r.mark
	return b
}

func parseRecord(b []byte) (record, error) {
	if len(b) != recordWidth {
		return record{}, fmt.Errorf("etcdcall: a record of %d bytes", len(b))
	}
	seq, err := strconv.ParseUint(string(b[:recordWidth-1]), 16, 64)
	if err != nil {
		return record{}, fmt.Errorf("etcdcall: a record that is none: %w", err)
	}
	return record{seq: seq, mark: b[recordWidth-1]}, nil
}

// applied reports whether the record stands for a write that took effect.
func (r record) applied() bool { return r.mark == markThen || r.mark == markElse }

// guard is the comparison that lets the write of number seq through: the slot
// holds a lesser number. etcd finds it false if there is no slot.
func guard(slot []byte, seq uint64) *pb.Compare {
	return &pb.Compare{
		Key:         slot,
		Target:      pb.Compare_VALUE,
		Result:      pb.Compare_LESS,
		TargetUnion: &pb.Compare_Value{Value: record{seq, guardMark}.bytes()},
	}
}

// NewSlot is the operation that creates a slot, in which no write has a number yet.
func NewSlot(slot []byte, lease int64) *pb.RequestOp {
	return putRecord(slot, lease, record{0, markNew})
}

// putRecord is the operation that records the write of number seq.
func putRecord(slot []byte, lease int64, r record) *pb.RequestOp {
	return putOp(&pb.PutRequest{Key: slot, Value: r.bytes(), Lease: lease})
}

func putOp(req *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: req}}
}

func deleteOp(req *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: req}}
}
