package completion

import (
	"bytes"
	"testing"
)

func FuzzRecordsCompareAsTheirNumbers(f *testing.F) {
	f.Add(uint64(0), uint64(1))
	f.Add(uint64(15), uint64(16))
	f.Add(^uint64(0), uint64(9))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		for _, mark := range []byte{markNew, markSealed, markElse, markThen} {
			r := record{a, mark}.bytes()
			if back, err := parseRecord(r); err != nil || back != (record{a, mark}) {
				t.Fatalf("%q reads as %v, %v", r, back, err)
			}
			// What the server decides: the guard lets b pass over a.
			if passes := bytes.Compare(r, guard(nil, b).GetValue()) < 0; passes != (a < b) {
				t.Errorf("%d passes over %d: %v", b, a, passes)
			}
		}
	})
}
