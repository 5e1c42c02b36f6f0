package main

import (
	"fmt"
	"runtime/debug"
)

// version says what the command was built from: its release, or (devel) for a
// working tree, the commit where the build knows it, and the version of Go.
func version(info *debug.BuildInfo, ok bool) string {
	if !ok {
		return "(unknown)"
	}
	v := info.Main.Version
	if v == "" {
		v = "(devel)"
	}
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if commit := settings["vcs.revision"]; commit != "" {
		v += " of commit " + commit
		if settings["vcs.modified"] == "true" {
			v += ", modified"
		}
	}
	return fmt.Sprintf("%s, built with %s", v, info.GoVersion)
}
