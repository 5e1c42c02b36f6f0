package etcdcall

import (
	"context"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// WithLogger makes the client log to log: what clientv3 has to say, at the level
// that it chose, and at level Debug every attempt that failed and every pause.
// Calls then cost more, also those that succeed; see [reprise.SlogObserver].
//
// Without it, or with nil, a client of this package is silent unless its
// configuration has a Logger or LogConfig: what went wrong is in the errors.
// Whoever logs through zap can pass slog.New(NewZapHandler(logger)).
func WithLogger(log *slog.Logger) Option {
	return func(s *settings) { s.logger = log }
}

// zapLogger is the logger for clientv3's configuration, which wants one of zap.
func (s *settings) zapLogger() *zap.Logger {
	if s.logger == nil {
		return zap.NewNop()
	}
	return zap.New(&slogCore{handler: s.logger.Handler()})
}

// slogCore lets zap write to a slog.Handler.
type slogCore struct {
	handler slog.Handler
}

// Enabled implements zapcore.LevelEnabler.
func (c *slogCore) Enabled(level zapcore.Level) bool {
	return c.handler.Enabled(context.Background(), slogLevel(level))
}

// With implements zapcore.Core.
func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{handler: c.handler.WithAttrs(attrsOf(fields))}
}

// Check implements zapcore.Core.
func (c *slogCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c *slogCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	record := slog.NewRecord(entry.Time, slogLevel(entry.Level), entry.Message, 0)
	if entry.LoggerName != "" {
		record.AddAttrs(slog.String("logger", entry.LoggerName))
	}
	record.AddAttrs(attrsOf(fields)...)
	return c.handler.Handle(context.Background(), record)
}

// Sync implements zapcore.Core. A slog.Handler has nothing to flush.
func (c *slogCore) Sync() error { return nil }

func attrsOf(fields []zapcore.Field) []slog.Attr {
	attrs := make([]slog.Attr, 0, len(fields))
	for _, field := range fields {
		values := zapcore.NewMapObjectEncoder()
		field.AddTo(values)
		for key, value := range values.Fields {
			attrs = append(attrs, slog.Any(key, value))
		}
	}
	return attrs
}

func slogLevel(level zapcore.Level) slog.Level {
	switch {
	case level <= zapcore.DebugLevel:
		return slog.LevelDebug
	case level == zapcore.InfoLevel:
		return slog.LevelInfo
	case level == zapcore.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}
