package drill

import (
	"reflect"
	"testing"
	"time"
)

func TestEveryKindOfFaultIsScheduled(t *testing.T) {
	t.Parallel()
	for _, lasting := range []time.Duration{minTime, time.Second, 15 * time.Second, time.Hour} {
		for seed := range uint64(50) {
			seen := make(map[Fault]bool)
			last := time.Duration(-1)
			for i, s := range schedule(seed, lasting, 3) {
				if i < len(Faults()) {
					seen[s.fault] = true
				}
				if s.at < last || s.at > lasting {
					t.Errorf("seed %d, %v: strike %d is at %v, after %v", seed, lasting, i, s.at, last)
				}
				last = s.at
				if s.member < 0 || s.member > 2 || s.calls < 1 || s.hold <= 0 {
					t.Errorf("seed %d: nonsense: %+v", seed, s)
				}
			}
			if len(seen) != len(Faults()) {
				t.Errorf("seed %d, %v: the first strikes are %v", seed, lasting, seen)
			}
		}
	}
}

func TestTheSeedDecidesTheSchedule(t *testing.T) {
	t.Parallel()
	a, b := schedule(1, time.Minute, 3), schedule(1, time.Minute, 3)
	if !reflect.DeepEqual(a, b) {
		t.Error("one seed gave two schedules")
	}
	if reflect.DeepEqual(a, schedule(2, time.Minute, 3)) {
		t.Error("two seeds gave one schedule")
	}
}
