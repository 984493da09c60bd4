package page

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"embed"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd/tables/flightd"
)

const (
	headerTime  = 10 * time.Second
	headerBytes = 32 << 10
	maxStreams  = 64 // requests at a time on a connection of HTTP/2
)

// Serve serves a listener with h until ctx ends. It then gives requests under way the
// server's grace period to finish, and closes the listener. If the server uses TLS, Serve
// accepts connections both with and without it, so that monitoring needs no TLS.
func Serve(ctx context.Context, l net.Listener, server *flightd.Server, h http.Handler) error {
	o := server.Options()
	s := &http.Server{
		ReadHeaderTimeout: headerTime, IdleTimeout: time.Minute, MaxHeaderBytes: headerBytes,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rc, late := http.NewResponseController(w), time.Now().Add(o.IdleTimeout)
			_ = rc.SetWriteDeadline(late)
			if r.Body != http.NoBody {
				_ = rc.SetReadDeadline(late)
			}
			h.ServeHTTP(w, r)
		}),
		ConnState: func(c net.Conn, state http.ConnState) {
			if t, ok := c.(*tls.Conn); ok {
				c = t.NetConn()
			}
			if p, ok := c.(*peeked); ok {
				c = p.Conn
			}
			server.Busy(c, state)
		},
	}
	l = server.Listener(l)
	if o.TLS != nil {
		l = newEither(l, o.TLS)
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		late, end := context.WithTimeout(context.WithoutCancel(ctx), server.Left())
		defer end()
		if s.Shutdown(late) != nil {
			_ = s.Close()
		}
	})
	err := s.Serve(l)
	if !stop() {
		<-done
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// either is a listener for connections with TLS and without: the first byte tells.
type either struct {
	net.Listener
	config *tls.Config
	conns  chan net.Conn
	ended  chan struct{}
	end    func()
	err    error // once ended
}

func newEither(l net.Listener, config *tls.Config) *either {
	e := &either{Listener: l, config: config.Clone(), conns: make(chan net.Conn), ended: make(chan struct{})}
	e.config.NextProtos = []string{"h2", "http/1.1"}
	e.end = sync.OnceFunc(func() { close(e.ended) })
	go func() {
		for {
			conn, err := l.Accept()
			var passing interface{ Temporary() bool }
			if errors.As(err, &passing) && passing.Temporary() { // there are too many files open
				time.Sleep(10 * time.Millisecond)
				continue
			}
			if err != nil {
				e.err = err
				e.end()
				return
			}
			go e.look(conn)
		}
	}()
	return e
}

// look finds out what a connection is. There are no more of them than the listener
// allows.
func (e *either) look(conn net.Conn) {
	const handshake = 0x16
	p := &peeked{Conn: conn}
	_ = conn.SetReadDeadline(time.Now().Add(headerTime))
	if _, err := conn.Read(p.first[:]); err != nil {
		_ = conn.Close()
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	var ready net.Conn = p
	if p.first[0] == handshake {
		ready = tls.Server(p, e.config)
	}
	select {
	case e.conns <- ready:
	case <-e.ended:
		_ = conn.Close()
	}
}

func (e *either) Accept() (net.Conn, error) {
	select {
	case conn := <-e.conns:
		return conn, nil
	case <-e.ended:
		return nil, e.err
	}
}

// peeked is a connection whose first byte was read.
type peeked struct {
	net.Conn
	first [1]byte
	given bool
}

func (p *peeked) Read(b []byte) (int, error) {
	if p.given || len(b) == 0 {
		return p.Conn.Read(b)
	}
	p.given = true
	return copy(b, p.first[:]), nil
}

// dist is the page, as it was built. Of large files there is what they are when packed.
//
//go:embed all:dist
var dist embed.FS

// files serves the page.
func files() http.Handler {
	root, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the name is no path: the program is wrong
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := cmp.Or(strings.TrimPrefix(path.Clean(r.URL.Path), "/"), "index.html")
		data, err := fs.ReadFile(root, name)
		if err != nil {
			if data, err = fs.ReadFile(root, name+".gz"); err == nil && accepts(r, "gzip") {
				w.Header().Set("Content-Encoding", "gzip")
			} else if err == nil {
				data, err = unpacked(data)
			}
		}
		if err != nil {
			http.Error(w, "there is no "+name+" here", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("Vary", "Accept-Encoding")
		sum := sha256.Sum256(data)
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
}

func unpacked(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func accepts(r *http.Request, encoding string) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(part, ";")
		if strings.TrimSpace(name) == encoding {
			return strings.Trim(strings.TrimPrefix(strings.TrimSpace(quality), "q="), "0.") != "" || quality == ""
		}
	}
	return false
}
