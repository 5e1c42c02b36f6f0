// Package zapslog lets what logs through zap write to a slog.Handler, and what logs
// through log/slog to a logger of zap.
package zapslog
