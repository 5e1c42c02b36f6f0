//go:build race

package watch_test

// raceDetector says that the tests are so slow that their times mean nothing.
const raceDetector = true
