package services

import (
	"errors"
	"testing"
)

type brokenText struct{ text string }

func (b *brokenText) Error() string { return b.text }

// What happens to names that are not unique outside of tests.
func TestOfTwoReportsUnderOneNameEachFailureStays(t *testing.T) {
	t.Parallel()
	a, b := errors.New("a"), errors.New("b")
	for _, c := range []struct {
		first, second error
		want          string
	}{
		{nil, nil, ""},
		{nil, b, "b"},
		{a, nil, "a"},
		{a, b, "a\nb"},
		{a, errors.New("a"), "a"},
	} {
		dest := map[string]error{"x": c.first}
		mergeHealth(dest, "x", c.second)
		got := ""
		if dest["x"] != nil {
			got = dest["x"].Error()
		}
		if got != c.want {
			t.Errorf("%v and %v: %q, want %q", c.first, c.second, got, c.want)
		}
	}
	dest := map[string]error{"x": (*brokenText)(nil)}
	mergeHealth(dest, "x", a)
	if !errors.Is(dest["x"], a) {
		t.Error("lost beside an error that cannot say its text")
	}
}

func TestOutsideOfTestsADuplicateTakesThePlaceOfTheFirst(t *testing.T) {
	t.Parallel()
	c := NewChecker("", "")
	first, second := named{"x", errors.New("first")}, named{"x", nil}
	if !c.add("x", first, false) || !c.add("x", second, false) || c.add("x", first, true) {
		t.Error("refused or not refused against the rule")
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if healthy, report := c.IsHealthy(); !healthy || len(report) != 1 {
		t.Errorf("%v", report)
	}
}

type named struct {
	name string
	err  error
}

func (n named) Name() string                   { return n.name }
func (n named) Ready() error                   { return n.err }
func (n named) HealthReport() map[string]error { return map[string]error{n.name: n.err} }

func TestTheVersionComesFromTheBuildAndTheCommitIsCut(t *testing.T) {
	t.Parallel()
	if ver, sha := version("v1", "0123456789"); ver != "v1" || sha != "0123456" {
		t.Error(ver, sha)
	}
	if _, sha := version("", "012"); sha != "012" {
		t.Error(sha)
	}
	if ver, _ := version("", ""); ver == "" {
		t.Error("no version, although the test binary has build information")
	}
}
