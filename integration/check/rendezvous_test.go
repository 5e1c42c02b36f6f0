package check_test

import (
	"testing"
	"time"

	"github.com/reprise-go/reprise/integration/check"
)

func second(s int) time.Time { return time.Unix(int64(s), 0) }

func TestStoppedCatchesWhoPassesABarrierThatStands(t *testing.T) {
	t.Parallel()
	stood := []check.Standing{{second(10), second(20)}, {second(30), second(40)}}
	for name, test := range map[string]struct {
		arrived, passed int
		fine            bool
	}{
		"after the release":          {12, 21, true},
		"between":                    {22, 23, true},
		"before it was raised":       {1, 2, true},
		"while it was being raised":  {9, 11, true},
		"while it stood":             {12, 19, false},
		"while it stood once more":   {35, 36, false},
		"as soon as it is released":  {12, 20, true},
		"when it had just been told": {10, 19, false},
	} {
		err := check.Stopped(stood, []check.Passage{{Who: "a", Arrived: second(test.arrived), Passed: second(test.passed)}})
		if (err == nil) != test.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTogetherCatchesMembersOutOfStep(t *testing.T) {
	t.Parallel()
	stay := func(member string, enter, begun, leave, ended int) check.Stay {
		return check.Stay{Round: 1, Member: member, Enter: second(enter), Begun: second(begun), Leave: second(leave), Ended: second(ended)}
	}
	for name, test := range map[string]struct {
		stays []check.Stay
		fine  bool
	}{
		"together":        {[]check.Stay{stay("a", 1, 3, 4, 7), stay("b", 2, 4, 6, 8)}, true},
		"began too early": {[]check.Stay{stay("a", 1, 3, 5, 7), stay("b", 4, 5, 6, 8)}, false},
		"ended too early": {[]check.Stay{stay("a", 1, 3, 4, 5), stay("b", 2, 4, 6, 8)}, false},
		"one alone":       {[]check.Stay{stay("a", 1, 3, 4, 5)}, false},
		"one too many":    {[]check.Stay{stay("a", 1, 3, 4, 7), stay("b", 2, 4, 6, 8), stay("c", 2, 4, 6, 8)}, false},
	} {
		if err := check.Together(test.stays, 2); (err == nil) != test.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}
