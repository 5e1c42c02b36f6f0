package main

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestTheVersionSaysWhatTheCommandWasBuiltFrom(t *testing.T) {
	t.Parallel()
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	for want, info := range map[string]*debug.BuildInfo{
		"(unknown)":                      nil,
		"v1.2.3, built with go1.26":      {GoVersion: "go1.26", Main: debug.Module{Version: "v1.2.3"}},
		"(devel), built with go1.26":     {GoVersion: "go1.26"},
		"v1 of commit abc, built with g": {GoVersion: "g", Main: debug.Module{Version: "v1"}, Settings: []debug.BuildSetting{setting("vcs.revision", "abc"), setting("vcs.modified", "false")}},
		"v1 of commit abc, modified, built with g": {
			GoVersion: "g", Main: debug.Module{Version: "v1"},
			Settings: []debug.BuildSetting{setting("vcs.revision", "abc"), setting("vcs.modified", "true")},
		},
	} {
		if got := version(info, info != nil); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	status, out, errs := command(t, "--version")
	if status != exitOK || !strings.HasPrefix(out, "reprise version ") || !strings.Contains(out, runtime.Version()) || errs != "" {
		t.Errorf("status %d, output %q, error %q", status, out, errs)
	}
}
