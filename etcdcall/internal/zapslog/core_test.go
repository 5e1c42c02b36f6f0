package zapslog

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestZapFieldsArriveInSlog(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	logger := zap.New(NewCore(slog.NewTextHandler(&out, nil)))
	logger.Named("etcd").With(zap.String("a", "1")).Warn("careful", zap.Int("b", 2), zap.Error(context.Canceled))
	logger.Debug("not seen")
	got := out.String()
	for _, want := range []string{"level=WARN", "msg=careful", "logger=etcd", "a=1", "b=2", `error="context canceled"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if strings.Contains(got, "not seen") {
		t.Errorf("a debug message passed a handler of level info: %q", got)
	}
}
