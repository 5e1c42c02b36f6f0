package zapslog

import (
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"

	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestTheZapHandlerDoesWhatSlogAsks(t *testing.T) {
	t.Parallel()
	observed, logs := observer.New(zapcore.DebugLevel)
	results := func() []map[string]any {
		var all []map[string]any
		for _, entry := range logs.All() {
			one := map[string]any{slog.LevelKey: entry.Level, slog.MessageKey: entry.Message}
			if !entry.Time.IsZero() {
				one[slog.TimeKey] = entry.Time
			}
			for name, value := range entry.ContextMap() {
				nest(one, strings.Split(name, "."), value)
			}
			all = append(all, one)
		}
		return all
	}
	if err := slogtest.TestHandler(NewHandler(observed), results); err != nil {
		t.Error(err)
	}
}

// nest puts a value under the names of its groups.
func nest(into map[string]any, path []string, value any) {
	for _, group := range path[:len(path)-1] {
		inner, ok := into[group].(map[string]any)
		if !ok {
			inner = map[string]any{}
			into[group] = inner
		}
		into = inner
	}
	into[path[len(path)-1]] = value
}
