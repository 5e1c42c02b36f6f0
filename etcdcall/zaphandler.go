package etcdcall

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// NewZapHandler returns a slog.Handler that writes to a zap logger, for programs
// that log through zap:
//
//	etcdcall.WithLogger(slog.New(etcdcall.NewZapHandler(logger)))
//
// Levels between those that slog names count as the lower one; above Error, as
// Error. A nil logger discards everything.
func NewZapHandler(logger *zap.Logger) slog.Handler {
	if logger == nil {
		return slog.DiscardHandler
	}
	return &zapHandler{core: logger.Core()}
}

// zapHandler keeps the attributes of open groups to itself, since zap cannot
// put a later field into an earlier object.
type zapHandler struct {
	core   zapcore.Core
	groups []string
}

// Enabled implements slog.Handler.
func (h *zapHandler) Enabled(_ context.Context, level slog.Level) bool {
	return h.core.Enabled(zapLevel(level))
}

// Handle implements slog.Handler.
func (h *zapHandler) Handle(_ context.Context, record slog.Record) error {
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
func (h *zapHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := make([]zapcore.Field, 0, len(attrs))
	for _, attr := range attrs {
		fields = h.append(fields, attr)
	}
	return &zapHandler{core: h.core.With(fields), groups: h.groups}
}

// WithGroup implements slog.Handler.
func (h *zapHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &zapHandler{core: h.core, groups: append(slices.Clip(h.groups), name)}
}

// append adds an attribute under its full name, groups joined by dots.
func (h *zapHandler) append(fields []zapcore.Field, attr slog.Attr) []zapcore.Field {
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
