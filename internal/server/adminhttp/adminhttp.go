// Package adminhttp serves a server's health, readiness, metrics and profiles over HTTP.
package adminhttp

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"time"
)

// Handler serves /healthz, /readyz and, unless metrics is nil, /metrics. If ready returns an error,
// /readyz answers 503 with the error's text.
func Handler(ready func() error, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	if metrics != nil {
		mux.Handle("GET /metrics", metrics)
	}
	return mux
}

//go:embed status.html
var status string

// WithStatus returns a handler that also serves a status page at /. The page shows the given facts, such as the store
// and the version, and the metrics of partd-server, which it reads from /metrics.
func WithStatus(h http.Handler, facts ...string) http.Handler {
	page := []byte(strings.Replace(status, "<!-- facts -->", html.EscapeString(strings.Join(facts, " · ")), 1))
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		_, _ = w.Write(page) // the client may have disconnected
	})
	return mux
}

// WithProfiles returns a handler that also serves /debug/pprof/.
func WithProfiles(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// Serve serves HTTP on l until ctx ends. It then closes l. At most MaxConnections stay open: beyond that, a new
// connection replaces the least recently used one.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	const (
		timeout     = 10 * time.Second
		idleTimeout = time.Minute
		maxHeader   = 16 << 10
	)
	s := &http.Server{
		Handler: h, ConnState: new(connections).setState, ReadTimeout: timeout, WriteTimeout: timeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() }) // makes Serve return
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// MaxConnections is the maximum number of connections that Serve keeps open.
const MaxConnections = 64

// connections closes connections beyond MaxConnections.
type connections struct {
	mu   sync.Mutex
	open []net.Conn // the least recently used first
}

// setState implements http.Server.ConnState.
func (c *connections) setState(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = slices.DeleteFunc(c.open, func(o net.Conn) bool { return o == conn })
	if state != http.StateClosed && state != http.StateHijacked {
		c.open = append(c.open, conn)
	}
	if len(c.open) > MaxConnections {
		_ = c.open[0].Close() // the client may have disconnected
		c.open = slices.Delete(c.open, 0, 1)
	}
}
