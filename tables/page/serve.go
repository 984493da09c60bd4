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

	"github.com/go-partd/partd/tables/internal/faces/serving"
)

const (
	headerTimeout  = 10 * time.Second
	maxHeaderBytes = 32 << 10
	maxStreams     = 64 // concurrent requests on one HTTP/2 connection
)

// Serve serves connections from l with h until ctx ends. It then closes l and gives running requests the server's grace
// period to finish. If the server uses TLS, Serve also accepts connections without TLS, for monitoring.
func Serve(ctx context.Context, l net.Listener, server *serving.Core, h http.Handler) error {
	o := server.Options()
	s := &http.Server{
		ReadHeaderTimeout: headerTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeaderBytes,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rc, deadline := http.NewResponseController(w), time.Now().Add(o.IdleTimeout)
			_ = rc.SetWriteDeadline(deadline) // fails only if the connection is closed
			if r.Body != http.NoBody {
				_ = rc.SetReadDeadline(deadline)
			}
			h.ServeHTTP(w, r)
		}),
		BaseContext: func(net.Listener) context.Context { return context.WithValue(context.Background(), stoppingKey{}, ctx) },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return serving.WithConnection(ctx, rawConn(c)) },
		ConnState:   func(c net.Conn, state http.ConnState) { server.Conns.SetState(rawConn(c), state) },
	}
	l = server.Conns.Listener(l)
	if o.TLS != nil {
		l = listenTLSOrPlain(l, o.TLS)
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		defer server.Conns.Drain()() // drains from now until this function returns
		graceCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), server.RemainingGrace())
		defer cancel()
		if s.Shutdown(graceCtx) != nil {
			_ = s.Close() // Shutdown has failed only because connections are still open
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

// rawConn returns the connection that the server's listener accepted, without the layers that Serve added.
func rawConn(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if p, ok := c.(*peekedConn); ok {
		c = p.Conn
	}
	return c
}

// tlsOrPlainListener accepts connections with and without TLS. The first byte distinguishes them.
type tlsOrPlainListener struct {
	net.Listener
	config     *tls.Config
	conns      chan net.Conn
	closed     chan struct{}
	markClosed func()
	err        error // from Listener.Accept; set before closed is closed
}

func listenTLSOrPlain(l net.Listener, config *tls.Config) *tlsOrPlainListener {
	e := &tlsOrPlainListener{Listener: l, config: config.Clone(), conns: make(chan net.Conn), closed: make(chan struct{})}
	e.config.NextProtos = []string{"h2", "http/1.1"}
	e.markClosed = sync.OnceFunc(func() { close(e.closed) })
	go func() {
		for {
			conn, err := l.Accept()
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() { // for example, too many open files
				time.Sleep(10 * time.Millisecond)
				continue
			}
			if err != nil {
				e.err = err
				e.markClosed()
				return
			}
			go e.detect(conn)
		}
	}()
	return e
}

// detect reads a connection's first byte to determine whether it uses TLS. It passes the connection to Accept. It runs
// in a goroutine for each connection; the wrapped listener limits the number of connections.
func (e *tlsOrPlainListener) detect(conn net.Conn) {
	const handshake = 0x16 // first byte from a TLS client
	p := &peekedConn{Conn: conn}
	_ = conn.SetReadDeadline(time.Now().Add(headerTimeout)) // fails only if the connection is closed; then Read also fails
	if _, err := conn.Read(p.first[:]); err != nil {
		_ = conn.Close() // nothing was written to it
		return
	}
	_ = conn.SetReadDeadline(time.Time{}) // fails only if the connection is closed; then the next Read also fails
	var ready net.Conn = p
	if p.first[0] == handshake {
		ready = tls.Server(p, e.config)
	}
	select {
	case e.conns <- ready:
	case <-e.closed:
		_ = conn.Close() // nothing was written to it
	}
}

func (e *tlsOrPlainListener) Accept() (net.Conn, error) {
	select {
	case conn := <-e.conns:
		return conn, nil
	case <-e.closed:
		return nil, e.err
	}
}

type peekedConn struct {
	net.Conn
	first      [1]byte // the byte that detect has read
	isReturned bool    // whether Read has returned first
}

func (p *peekedConn) Read(b []byte) (int, error) {
	if p.isReturned || len(b) == 0 {
		return p.Conn.Read(b)
	}
	p.isReturned = true
	return copy(b, p.first[:]), nil
}

// dist contains the built page. Large files are stored only in compressed form.
//
//go:embed all:dist
var dist embed.FS

func fileHandler() http.Handler {
	root, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the path is a constant
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := cmp.Or(strings.TrimPrefix(path.Clean(r.URL.Path), "/"), "index.html")
		data, err := fs.ReadFile(root, name)
		if err != nil {
			data, err = fs.ReadFile(root, name+".gz")
			if err == nil && acceptsEncoding(r, "gzip") {
				w.Header().Set("Content-Encoding", "gzip")
			} else if err == nil {
				data, err = gunzip(data)
			}
		}
		if err != nil {
			http.Error(w, "no such file: "+name, http.StatusNotFound)
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

func gunzip(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func acceptsEncoding(r *http.Request, encoding string) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(part, ";")
		if strings.TrimSpace(name) == encoding {
			return strings.Trim(strings.TrimPrefix(strings.TrimSpace(quality), "q="), "0.") != "" || quality == ""
		}
	}
	return false
}
