//go:build race

package reprise

func init() { raceEnabled = true }
