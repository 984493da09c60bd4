package flightd

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
)

// What is in this file lets another protocol serve the same store, under the same
// tokens, limits and figures.

// Caller is the holder of a token.
type Caller struct {
	Rights  Rights
	Buckets []string  // the only ones that the token covers; nil: all
	Expires time.Time // zero without a token
	user    string    // whose slots its queries take

	readOnly bool // whatever its rights are
}

// MayUse returns nil if the caller has a right in all of these buckets, and otherwise an
// error that wraps fs.ErrPermission.
func (c *Caller) MayUse(r Rights, buckets ...string) error {
	if c.readOnly && r > Read {
		return fmt.Errorf("%w: %w", tables.ErrReadOnly, fs.ErrPermission)
	}
	if c.Rights < r {
		return fmt.Errorf("the token allows reading only; this takes an admin token: %w", fs.ErrPermission)
	}
	for _, b := range buckets {
		if c.Buckets != nil && !slices.Contains(c.Buckets, b) {
			return fmt.Errorf("the token is not for bucket %q: %w", b, fs.ErrPermission)
		}
	}
	return nil
}

// Begin returns the context of a call that a caller makes from an address, and a function
// that ends the call with its error. Statements in this context may use only the caller's
// buckets.
func (s *Server) Begin(ctx context.Context, c *Caller, address, method string) (context.Context, func(error)) {
	began, the := time.Now(), s.newCall(c, address)
	if c.Rights > None {
		s.conns.know(address)
	}
	ctx, done := context.WithTimeoutCause(the.with(ctx), s.opts.CallTimeout, errTooLong)
	ctx, the.cancel = context.WithCancelCause(ctx)
	if c.Buckets != nil {
		ctx = tables.WithBuckets(ctx, c.Buckets)
	}
	return ctx, func(err error) {
		s.ended(ctx, method, began, Status(err))
		the.cancel(nil)
		done()
	}
}

// Sending runs f, which waits for the call's client to receive something.
func Sending(ctx context.Context, f func() error) error {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.sending.Store(time.Now().UnixNano())
		defer c.sending.Store(0)
	}
	return f()
}

// Cancellable returns a context that Cancel can end by its id, until the returned function
// is called.
func (s *Server) Cancellable(ctx context.Context, id string) (context.Context, func()) {
	return s.sql.running.add(ctx, id)
}

// Cancel ends whatever runs under an id, and reports whether anything did.
func (s *Server) Cancel(id string) bool { return s.sql.running.cancel(id) }

// Status returns err with the gRPC status code that clients of Flight SQL expect for it.
func Status(err error) error {
	if code, ok := causes[err]; ok {
		return status.Error(code, err.Error())
	}
	return sqlError(err)
}

// Options returns the server's options, with the defaults filled in.
func (s *Server) Options() Options { return s.opts }

// Left returns how much longer running calls may go on once the server shuts down.
func (s *Server) Left() time.Duration {
	if by := s.endsBy.Load(); by != 0 {
		return time.Until(time.Unix(0, by))
	}
	return s.opts.Grace
}

// Listener wraps l so that its connections count as Flight's do. Idle ones are closed to
// make room for others; Busy tells the server which are idle.
func (s *Server) Listener(l net.Listener) net.Listener { return s.conns.listener(l) }

// Busy reports the state of a connection of Listener. Call it from http.Server.ConnState.
func (s *Server) Busy(conn net.Conn, state http.ConnState) {
	c, ok := conn.(*connection)
	if !ok || state != http.StateActive && state != http.StateIdle {
		return
	}
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	c.calls, c.since = 0, time.Now()
	if state == http.StateActive {
		c.calls = 1
	}
}

var crossOrigin = http.NewCrossOriginProtection()

// Admits returns nil unless a page of another site made the request. A request for data, as
// opposed to a page (fetched), is refused even if such a page only reads.
func (s *Server) Admits(r *http.Request, fetched bool) error {
	forbidden := func(text string) error { return fmt.Errorf("%s: %w", text, fs.ErrPermission) }
	if err := crossOrigin.Check(r); err != nil {
		return forbidden("the request comes from another site: " + err.Error())
	}
	if site := r.Header.Get("Sec-Fetch-Site"); fetched && site != "" && site != "same-origin" && site != "none" {
		return forbidden("the request comes from another site")
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if s.opts.Secret == nil && loopback(local) && !loopbackHost(r.Host) {
		return forbidden("the header Host is neither localhost nor a loopback address: another site's name may lead here")
	}
	return nil
}

func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

func loopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}
