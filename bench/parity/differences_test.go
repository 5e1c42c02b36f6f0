package parity

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/googleapis/gax-go/v2"
	"github.com/reprise-go/reprise"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A difference is one that docs/gax.md lists under the same name. Both sides say
// in a few words what they saw.
type difference struct {
	name    string
	gax     func(ctx context.Context) string
	reprise func(ctx context.Context) string
	// What was seen. The test fails when gax-go mends its side too: the document
	// is then to be changed.
	inGax, inReprise string
}

var errServer = status.Error(codes.Unavailable, "down")

// Both libraries retry Unavailable after a pause of at most two seconds.
var (
	gaxRetry = gax.WithRetry(func() gax.Retryer {
		return gax.OnCodes([]codes.Code{codes.Unavailable}, gax.Backoff{Initial: 2 * time.Second, Max: 2 * time.Second})
	})
	repriseRetry = reprise.WithRetry(func() reprise.Retryer {
		return reprise.OnCodes([]codes.Code{codes.Unavailable}, reprise.Backoff{Initial: 2 * time.Second, Max: 2 * time.Second})
	})
)

var differences = slices.Concat(contextDifferences, errorDifferences, backoffDifferences, optionDifferences, headerDifferences)

func TestEachDifferenceIsAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/gax.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "### "); ok {
			documented = append(documented, strings.TrimSpace(name))
		}
	}
	var tested []string
	for _, d := range differences {
		tested = append(tested, d.name)
		t.Run(d.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := guarded(t.Context(), d.gax); got != d.inGax {
					t.Errorf("gax-go: %s; the document says %s", got, d.inGax)
				}
				if got := guarded(t.Context(), d.reprise); got != d.inReprise {
					t.Errorf("Reprise: %s; the document says %s", got, d.inReprise)
				}
			})
		})
	}
	slices.Sort(documented)
	slices.Sort(tested)
	if !slices.Equal(documented, tested) {
		t.Errorf("docs/gax.md lists\n%q\nand the differences tested are\n%q", documented, tested)
	}
}

// guarded turns a panic into words.
func guarded(ctx context.Context, f func(context.Context) string) (saw string) {
	defer func() {
		if v := recover(); v != nil {
			saw = "a panic"
		}
	}()
	return f(ctx)
}

// always is a call that fails with err, and counts.
func always(err error, made *int) (gax.APICall, reprise.APICall) {
	return func(context.Context, gax.CallSettings) error { *made++; return err },
		func(context.Context, reprise.CallSettings) error { *made++; return err }
}
