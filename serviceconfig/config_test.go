package serviceconfig_test

import (
	"testing"

	"github.com/reprise-go/reprise/serviceconfig"
)

func TestTheMostSpecificEntryHolds(t *testing.T) {
	t.Parallel()
	c := &serviceconfig.Config{Methods: []serviceconfig.MethodConfig{
		{Names: []serviceconfig.Name{{}}},
		{Names: []serviceconfig.Name{{Service: "a.B"}}},
		{Names: []serviceconfig.Name{{Service: "x.Y"}, {Service: "a.B", Method: "C"}}},
		{},
	}}
	for method, want := range map[string]int{
		"/a.B/C": 2, "a.B/C": 2, "/a.B/D": 1, "/a.B/": 1, "/x.Y/C": 2, "/z.Z/C": 0, "": 0, "C": 0, "/c": 0,
	} {
		if got := c.Method(method); got != &c.Methods[want] {
			t.Errorf("%q: got %+v, want entry %d", method, got, want)
		}
	}
	c.Methods = c.Methods[1:]
	if got := c.Method("/z.Z/C"); got != nil {
		t.Errorf("without a default: got %+v, want none", got)
	}
}
