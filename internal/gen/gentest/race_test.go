//go:build race

package gentest_test

func init() { poolDrops = 1 }
