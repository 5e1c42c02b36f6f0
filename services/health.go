package services

import (
	"errors"
	"testing"
)

// CopyHealth copies the reports in src to dest, which must not be nil. Use it
// in a HealthReport to collect the reports of parts. Names must be unique: a
// name that dest has already is a mistake in the program, for which CopyHealth
// panics in a test. Elsewhere the error that dest has is joined with the new
// one, so that a failure is never hidden.
func CopyHealth(dest, src map[string]error) {
	for name, err := range src {
		if _, duplicate := dest[name]; duplicate && testing.Testing() {
			// The one documented assertion of tests; programs never come here.
			panic("service names must be unique: duplicate name: " + name)
		}
		mergeHealth(dest, name, err)
	}
}

// ContainsError reports whether any error of a report matches target, as
// [errors.Is] does.
func ContainsError(report map[string]error, target error) bool {
	for _, err := range report {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// mergeHealth adds an error under a name that may be taken: of two reports
// under one name, each failure stays.
func mergeHealth(dest map[string]error, name string, err error) {
	switch had := dest[name]; {
	case had == nil:
		dest[name] = err
	case err != nil && !sameText(err, had): // else the same part, reported twice
		dest[name] = errors.Join(had, err)
	}
}

func sameText(a, b error) (same bool) {
	// A nil pointer in an error may panic when asked for its text.
	err := protect(func() error {
		same = a.Error() == b.Error()
		return nil
	})
	return err == nil && same
}
