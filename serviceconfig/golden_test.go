package serviceconfig_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reprise-go/reprise/serviceconfig"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

func TestAllErrorsComeAtOnceInOrderWithTheirPlaces(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/errors/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = serviceconfig.ParseStrict(filepath.Base(file), data)
		if err == nil {
			t.Errorf("%s: no error", file)
			continue
		}
		got := err.Error() + "\n"
		golden := strings.TrimSuffix(file, ".json") + ".err"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s:\ngot\n%swant\n%s", file, got, want)
		}
	}
}

func TestErrorsTakesApartWhatParseJoined(t *testing.T) {
	t.Parallel()
	_, err := serviceconfig.ParseStrict("a.json", []byte("{\n\"x\":1,\n\"y\":2}"))
	all := serviceconfig.Errors(err)
	want := []serviceconfig.Error{
		{Position: serviceconfig.Position{File: "a.json", Line: 2, Column: 1}, Path: "x", Message: "unknown field"},
		{Position: serviceconfig.Position{File: "a.json", Line: 3, Column: 1}, Path: "y", Message: "unknown field"},
	}
	if len(all) != 2 || *all[0] != want[0] || *all[1] != want[1] {
		t.Errorf("got %+v, want %+v", all, want)
	}
	if one, ok := errors.AsType[*serviceconfig.Error](err); !ok || one != all[0] {
		t.Errorf("errors.AsType finds %v, want the first", one)
	}
	for _, err := range []error{nil, errors.New("other")} {
		if all := serviceconfig.Errors(err); all != nil {
			t.Errorf("of %v: got %v, want none", err, all)
		}
	}
}

func TestAPositionLeavesOutWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]serviceconfig.Error{
		"m":              {Message: "m"},
		"p: m":           {Path: "p", Message: "m"},
		"f: m":           {Position: serviceconfig.Position{File: "f"}, Message: "m"},
		"3:4: p: m":      {Position: serviceconfig.Position{Line: 3, Column: 4}, Path: "p", Message: "m"},
		"f:3:4: p[1]: m": {Position: serviceconfig.Position{File: "f", Line: 3, Column: 4}, Path: "p[1]", Message: "m"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
