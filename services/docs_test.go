package services_test

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/services"
)

func document(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/services.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var states = []string{"Unstarted", "Starting", "Started", "StartFailed", "Stopping", "Stopped", "StopFailed"}

func TestTheDocumentShowsEveryTransitionAndNoOther(t *testing.T) {
	t.Parallel()
	var shown []string
	for _, edge := range regexp.MustCompile(`(?m)^    (\w+) --> (\w+): (.+)$`).FindAllStringSubmatch(document(t), -1) {
		shown = append(shown, strings.Join(edge[1:], " "))
	}
	var seen []string
	note := func(from, to, why string) {
		if edge := strings.Join([]string{from, to, why}, " "); from != to && !slices.Contains(seen, edge) {
			seen = append(seen, edge)
		}
	}
	for _, name := range states {
		if name == "Starting" || name == "Stopping" { // entered on the way
			continue
		}
		for call, once := range map[string]func(*services.StateMachine, string, func() error) error{
			"StartOnce": (*services.StateMachine).StartOnce,
			"StopOnce":  (*services.StateMachine).StopOnce,
		} {
			for outcome, result := range map[string]error{"fn returned nil": nil, "fn failed": errBoom} {
				m, _ := inState(t, name)
				during := name
				_ = once(m, "n", func() error { during = m.State(); return result })
				note(name, during, call)
				note(during, m.State(), outcome)
			}
		}
	}
	slices.Sort(shown)
	slices.Sort(seen)
	if !slices.Equal(shown, seen) {
		t.Errorf("shown:\n%s\nseen:\n%s", strings.Join(shown, "\n"), strings.Join(seen, "\n"))
	}
}

func TestTheDocumentSaysWhatEachStateAnswers(t *testing.T) {
	t.Parallel()
	rows := regexp.MustCompile("(?m)^\\| (\\w+) \\| (`[^`]+`|runs fn) \\| (`[^`]+`|runs fn|waits, then as the next state) \\| (`[^`]+`|nil) \\|$").
		FindAllStringSubmatch(document(t), -1)
	var named []string
	for _, row := range rows {
		named = append(named, row[1])
		m, release := inState(t, row[1])
		answer := func(err error, ran bool) string {
			switch {
			case ran:
				return "runs fn"
			case err == nil:
				return "nil"
			default:
				return "`" + err.Error() + "`"
			}
		}
		if got := answer(m.Ready(), false); got != row[4] {
			t.Errorf("%s: Ready: %s, the document says %s", row[1], got, row[4])
		}
		if strings.HasPrefix(row[3], "waits") {
			if row[1] != "Starting" && row[1] != "Stopping" {
				t.Errorf("%s: nothing to wait for", row[1])
			}
		} else {
			other, _ := inState(t, row[1])
			ran := false
			err := other.StopOnce("n", func() error { ran = true; return nil })
			if got := answer(err, ran); got != row[3] {
				t.Errorf("%s: StopOnce: %s, the document says %s", row[1], got, row[3])
			}
		}
		ran := false
		err := m.StartOnce("n", func() error { ran = true; return nil })
		if got := answer(err, ran); got != row[2] {
			t.Errorf("%s: StartOnce: %s, the document says %s", row[1], got, row[2])
		}
		release()
	}
	if !slices.Equal(named, states) {
		t.Errorf("the document answers for %v", named)
	}
}

// The program of the document, with what it takes for granted.
func TestTheProgramOfTheDocumentRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fed := 0
		connect := func(context.Context) (*feed, error) {
			if fed++; fed == 1 {
				return nil, errBoom
			}
			return new(feed), nil
		}
		web := services.New(services.Config{Name: "web"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()

		checker := services.NewChecker("", "")
		feeder := services.New(services.Config{
			Name:        "feeder",
			ManualReady: true,
			Run: func(ctx context.Context, status *services.Status) error {
				conn, err := connect(ctx)
				if err != nil {
					return err // Restart decides
				}
				status.Ready(nil)
				return conn.Feed(ctx)
			},
			Restart: func() reprise.Retryer {
				return reprise.OnErrorFunc(reprise.Backoff{}, func(error) bool { return true })
			},
		})
		config := services.RunConfig{Checker: checker, Drain: 5 * time.Second, Signals: noSignals}
		time.AfterFunc(30*time.Second, func() {
			if ready, report := checker.IsReady(); !ready || len(report) != 2 {
				t.Errorf("%v", report)
			}
		})
		if err := services.Run(ctx, config, feeder, web); err != nil {
			t.Error(err)
		}
		if fed != 2 {
			t.Errorf("connected %d times", fed)
		}
	})
}

type feed struct{}

func (*feed) Feed(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}
