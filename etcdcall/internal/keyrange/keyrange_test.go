package keyrange

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestAKeyIsInARange(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		start, end, key string
		want            bool
	}{
		{"k", "", "k", true},
		{"k", "", "k\x00", false},
		{"k", "l", "k", true},
		{"k", "l", "k\xff", true},
		{"k", "l", "l", false},
		{"k", "l", "j\xff", false},
		{"k", "k", "k", false},
		{"l", "k", "k", false},
		{"k", NoEnd, "\xff", true},
		{"k", NoEnd, "j", false},
	} {
		if got := Contains([]byte(tc.start), []byte(tc.end), []byte(tc.key)); got != tc.want {
			t.Errorf("[%q, %q) has %q: %v", tc.start, tc.end, tc.key, got)
		}
	}
}

func FuzzOverlapsFindsCommonKeys(f *testing.F) {
	f.Add("once/x", "")
	f.Add("a", "z")
	f.Add("a", "once/")
	f.Add("a", "\x00")
	f.Add("once0", "z")
	f.Add("z", "a")
	keys := []string{"a", "o", "once", "once.", "once/", "once/\x00", "once/x", "once/\xff\xff", "once0", "p", "z", "\xff"}
	f.Fuzz(func(t *testing.T, start, end string) {
		for _, prefix := range []string{"once/", "\xff"} {
			got := Overlaps([]byte(start), []byte(end), prefix, clientv3.GetPrefixRangeEnd(prefix))
			for _, k := range append(keys, start, start+"\x00", prefix, prefix+start) {
				common := Contains([]byte(start), []byte(end), []byte(k)) && Contains([]byte(prefix), []byte(clientv3.GetPrefixRangeEnd(prefix)), []byte(k))
				if common && !got {
					t.Errorf("[%q, %q) has %q in common with %q, and that was not found", start, end, k, prefix)
				}
			}
		}
	})
}

func TestOverlapsIsNotMoreThanNeeded(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		start, end string
		want       bool
	}{
		{"once", "", false},
		{"once/", "", true},
		{"once0", "", false},
		{"a", "once/", false},
		{"a", "once/\x00", true},
		{"once0", "z", false},
		{"once0", "\x00", false},
		{"z", "a", false},
	} {
		if got := Overlaps([]byte(tc.start), []byte(tc.end), "once/", clientv3.GetPrefixRangeEnd("once/")); got != tc.want {
			t.Errorf("[%q, %q): %v", tc.start, tc.end, got)
		}
	}
}
