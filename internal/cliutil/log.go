package cliutil

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Peers can make the server warn as often as they connect, and ask for what its
// store cannot do, as on a full disk. So that they cannot fill the disk with its
// log, warnings and errors have a rate each; what is beyond it is counted.
const (
	warningsAtOnce    = 100
	warningsPerSecond = 10
)

// limited is a handler that leaves out warnings and errors beyond the rate. What
// is neither always passes. Its buckets are shared by the handlers that WithAttrs
// and WithGroup make.
type limited struct {
	slog.Handler
	warnings, errors *bucket
}

// bucket holds the warnings, or errors, that may be logged now.
type bucket struct {
	mu      sync.Mutex
	tokens  float64
	filled  time.Time
	leftOut int
}

// NewLog returns the log of a server, as text or as json.
func NewLog(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(limitWarnings(slog.NewJSONHandler(w, nil)))
	}
	return slog.New(limitWarnings(slog.NewTextHandler(w, nil)))
}

func limitWarnings(h slog.Handler) slog.Handler {
	return limited{h, &bucket{tokens: warningsAtOnce, filled: time.Now()}, &bucket{tokens: warningsAtOnce, filled: time.Now()}}
}

// take reports whether a warning may be logged, and how many were left out before.
func (b *bucket) take() (ok bool, leftOut int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.tokens = min(warningsAtOnce, b.tokens+now.Sub(b.filled).Seconds()*warningsPerSecond)
	b.filled = now
	if b.tokens < 1 {
		b.leftOut++
		return false, 0
	}
	b.tokens--
	leftOut, b.leftOut = b.leftOut, 0
	return true, leftOut
}

func (l limited) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return l.Handler.Handle(ctx, r)
	}
	b, count := l.warnings, "warnings_left_out_before"
	if r.Level >= slog.LevelError {
		b, count = l.errors, "errors_left_out_before"
	}
	ok, leftOut := b.take()
	if !ok {
		return nil
	}
	if leftOut > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int(count, leftOut))
	}
	return l.Handler.Handle(ctx, r)
}

func (l limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limited{l.Handler.WithAttrs(attrs), l.warnings, l.errors}
}

func (l limited) WithGroup(name string) slog.Handler {
	return limited{l.Handler.WithGroup(name), l.warnings, l.errors}
}
