package cliutil

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// These constants limit the rate of warnings and, separately, of errors. Otherwise clients could
// make the server fill the disk with its log.
const (
	maxBurst  = 100
	perSecond = 10
)

// rateLimited is a handler that drops warnings and errors that exceed the rate. It never drops
// messages of lower levels. The handlers that WithAttrs and WithGroup return share its buckets.
type rateLimited struct {
	slog.Handler
	warnings, errors *bucket
}

type bucket struct {
	limiter *rate.Limiter
	dropped atomic.Int64 // messages dropped since the last allowed one
}

func newBucket() *bucket { return &bucket{limiter: rate.NewLimiter(perSecond, maxBurst)} }

// NewLog returns a server's logger, which writes text or JSON to w.
func NewLog(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(limitWarnings(slog.NewJSONHandler(w, nil)))
	}
	return slog.New(limitWarnings(slog.NewTextHandler(w, nil)))
}

func limitWarnings(h slog.Handler) slog.Handler {
	return rateLimited{h, newBucket(), newBucket()}
}

func (l rateLimited) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return l.Handler.Handle(ctx, r)
	}
	b, attr := l.warnings, "warnings_left_out_before"
	if r.Level >= slog.LevelError {
		b, attr = l.errors, "errors_left_out_before"
	}
	if !b.limiter.Allow() {
		b.dropped.Add(1)
		return nil
	}
	if dropped := b.dropped.Swap(0); dropped > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int64(attr, dropped))
	}
	return l.Handler.Handle(ctx, r)
}

func (l rateLimited) WithAttrs(attrs []slog.Attr) slog.Handler {
	return rateLimited{l.Handler.WithAttrs(attrs), l.warnings, l.errors}
}

func (l rateLimited) WithGroup(name string) slog.Handler {
	return rateLimited{l.Handler.WithGroup(name), l.warnings, l.errors}
}
