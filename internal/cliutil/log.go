package cliutil

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Peers can make the server log a warning for each connection, or an error for each
// request, as on a full disk. To keep the log from filling the disk, warnings and
// errors are limited to this rate each. Dropped ones are counted.
const (
	burst     = 100
	perSecond = 10
)

// limited is a handler that drops warnings and errors beyond the rate. Lower levels
// always pass. The handlers that WithAttrs and WithGroup return share its buckets.
type limited struct {
	slog.Handler
	warnings, errors *bucket
}

// bucket is a token bucket for warnings or errors.
type bucket struct {
	mu       sync.Mutex
	tokens   float64
	filledAt time.Time
	dropped  int
}

// NewLog returns a server's logger, which writes text or JSON to w.
func NewLog(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(limitWarnings(slog.NewJSONHandler(w, nil)))
	}
	return slog.New(limitWarnings(slog.NewTextHandler(w, nil)))
}

func limitWarnings(h slog.Handler) slog.Handler {
	return limited{h, &bucket{tokens: burst, filledAt: time.Now()}, &bucket{tokens: burst, filledAt: time.Now()}}
}

// allow reports whether a message may be logged, and how many were dropped before it.
func (b *bucket) allow() (ok bool, dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.tokens = min(burst, b.tokens+now.Sub(b.filledAt).Seconds()*perSecond)
	b.filledAt = now
	if b.tokens < 1 {
		b.dropped++
		return false, 0
	}
	b.tokens--
	dropped, b.dropped = b.dropped, 0
	return true, dropped
}

func (l limited) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return l.Handler.Handle(ctx, r)
	}
	b, count := l.warnings, "warnings_left_out_before"
	if r.Level >= slog.LevelError {
		b, count = l.errors, "errors_left_out_before"
	}
	ok, dropped := b.allow()
	if !ok {
		return nil
	}
	if dropped > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int(count, dropped))
	}
	return l.Handler.Handle(ctx, r)
}

func (l limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limited{l.Handler.WithAttrs(attrs), l.warnings, l.errors}
}

func (l limited) WithGroup(name string) slog.Handler {
	return limited{l.Handler.WithGroup(name), l.warnings, l.errors}
}
