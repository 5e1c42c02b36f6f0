package zapslog

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// NewHandler returns a slog.Handler that writes to core. Attributes have the names of
// their groups before their own, joined by dots.
func NewHandler(core zapcore.Core) slog.Handler { return &handler{core: core} }

// handler keeps the names of open groups to itself, since zap cannot put a later
// field into an earlier object.
type handler struct {
	core   zapcore.Core
	groups []string
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return h.core.Enabled(zapLevel(level))
}

// Handle implements slog.Handler.
func (h *handler) Handle(_ context.Context, record slog.Record) error {
	fields := make([]zapcore.Field, 0, record.NumAttrs())
	record.Attrs(func(attr slog.Attr) bool {
		fields = h.append(fields, attr)
		return true
	})
	entry := zapcore.Entry{Level: zapLevel(record.Level), Time: record.Time, Message: record.Message}
	if checked := h.core.Check(entry, nil); checked != nil {
		checked.Write(fields...)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := make([]zapcore.Field, 0, len(attrs))
	for _, attr := range attrs {
		fields = h.append(fields, attr)
	}
	return &handler{core: h.core.With(fields), groups: h.groups}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &handler{core: h.core, groups: append(slices.Clip(h.groups), name)}
}

// append adds an attribute under its full name, groups joined by dots.
func (h *handler) append(fields []zapcore.Field, attr slog.Attr) []zapcore.Field {
	return appendNamed(fields, strings.Join(append(slices.Clip(h.groups), ""), "."), attr)
}

func appendNamed(fields []zapcore.Field, prefix string, attr slog.Attr) []zapcore.Field {
	value := attr.Value.Resolve()
	if value.Kind() != slog.KindGroup {
		if attr.Key == "" {
			return fields
		}
		return append(fields, zap.Any(prefix+attr.Key, value.Any()))
	}
	if attr.Key != "" {
		prefix += attr.Key + "."
	}
	for _, member := range value.Group() {
		fields = appendNamed(fields, prefix, member)
	}
	return fields
}

func zapLevel(level slog.Level) zapcore.Level {
	switch {
	case level < slog.LevelInfo:
		return zapcore.DebugLevel
	case level < slog.LevelWarn:
		return zapcore.InfoLevel
	case level < slog.LevelError:
		return zapcore.WarnLevel
	default:
		return zapcore.ErrorLevel
	}
}
