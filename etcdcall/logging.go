package etcdcall

import (
	"log/slog"

	"go.uber.org/zap"

	"github.com/reprise-go/reprise/etcdcall/internal/zapslog"
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
	return zap.New(zapslog.NewCore(s.logger.Handler()))
}

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
	return zapslog.NewHandler(logger.Core())
}
