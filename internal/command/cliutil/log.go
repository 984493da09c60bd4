package cliutil

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/logstore"
)

// These constants limit the rate of warnings and, separately, of errors. Otherwise clients could
// make the server fill the disk with its log.
const (
	maxBurst  = 100
	perSecond = 10
)

// rateLimited is a handler that drops warnings and errors beyond the rate. It never drops messages of
// lower levels. The handlers returned by WithAttrs and WithGroup share the buckets of the original
// handler.
type rateLimited struct {
	slog.Handler
	warnings, errors *bucket
}

type bucket struct {
	limiter *rate.Limiter
	dropped atomic.Int64 // number of messages dropped since the last allowed one
}

func newBucket() *bucket { return &bucket{limiter: rate.NewLimiter(perSecond, maxBurst)} }

// NewLog returns a server's logger, which writes text or JSON to w.
func NewLog(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(limitRate(slog.NewJSONHandler(w, nil)))
	}
	return slog.New(limitRate(slog.NewTextHandler(w, nil)))
}

// warningHandler is the log handler for a command that is not a server. It writes warnings and errors
// to w as human-readable lines.
type warningHandler struct {
	slog.Handler
	program string
	w       io.Writer
}

// NewWarnings returns a logger that writes each warning or error to w after the program's name.
func NewWarnings(program string, w io.Writer) *slog.Logger {
	return slog.New(warningHandler{slog.DiscardHandler, program, w})
}

func (warningHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (h warningHandler) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += fmt.Sprintf(", %s %v", a.Key, a.Value)
		return true
	})
	_, err := fmt.Fprintf(h.w, "%s: warning: %s\n", h.program, text)
	return err
}

// WarnTorn logs a warning if opening a log store skipped an incomplete record at the end of the
// store.
func WarnTorn(log *slog.Logger, store partd.Partd) {
	if s, ok := partd.As[interface {
		partd.Partd
		Recovery() logstore.Recovery
	}](store); ok && s.Recovery().Torn {
		log.Warn("skipped an incomplete record at the end of the store's newest write-ahead file", "path", s.Recovery().Path, "offset", s.Recovery().Offset)
	}
}

func limitRate(h slog.Handler) slog.Handler {
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
