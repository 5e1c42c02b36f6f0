// Package keyrange reads ranges of keys in the encoding of etcd: a key and where the
// range ends, which it does before that key. An empty end makes the range that one
// key, and [NoEnd] all keys from it on.
package keyrange

import "bytes"

// NoEnd is the end of a range that has none.
const NoEnd = "\x00"

// Contains reports whether key is in the range from start to end.
func Contains(start, end, key []byte) bool {
	switch {
	case len(end) == 0:
		return bytes.Equal(key, start)
	case string(end) == NoEnd:
		return bytes.Compare(key, start) >= 0
	default:
		return bytes.Compare(key, start) >= 0 && bytes.Compare(key, end) < 0
	}
}

// Overlaps reports whether the range from start to end has a key in common with
// that from first to bound, which must not be that of a single key.
func Overlaps(start, end []byte, first, bound string) bool {
	if bound != NoEnd && string(start) >= bound {
		return false
	}
	switch {
	case len(end) == 0:
		return string(start) >= first
	case string(end) == NoEnd:
		return true
	default:
		return string(end) > first && string(end) > string(start)
	}
}
