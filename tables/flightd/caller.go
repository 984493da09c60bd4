package flightd

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
)

// Rights are what a token allows.
type Rights uint8

// The rights. Each includes those before it.
const (
	None  Rights = iota
	Read         // read rows, and list what there is
	Admin        // do everything, including shutting down the server
)

// call is what the server knows of whoever calls.
type call struct {
	rights        Rights
	readOnly      bool   // nobody changes anything
	user          string // whose token it is; "" without
	host, conn    string // the address, without and with the port
	queries, puts *limiter
	rows          *putRows // the memory of a put's rows; nil: it is none

	cancel            context.CancelCauseFunc
	querying, putting atomic.Bool  // the call has its slot
	sending           atomic.Int64 // since when it waits for its client to take a message; 0: it does not
}

type callKey struct{}

// callOf is the context of a caller's call from an address, and what ends the call.
func (s *Server) callOf(ctx context.Context, c *Caller, address string) (context.Context, context.CancelCauseFunc) {
	the := &call{
		rights: c.Rights, readOnly: s.opts.ReadOnly, user: c.user,
		conn: address, host: hostOfAddress(address), queries: s.queries, puts: s.puts,
	}
	if c.Rights > None {
		s.conns.know(address)
	}
	ctx, done := context.WithTimeoutCause(the.with(ctx), s.opts.CallTimeout, errTooLong)
	ctx, the.cancel = context.WithCancelCause(ctx)
	if c.Buckets != nil {
		ctx = tables.WithBuckets(ctx, c.Buckets)
	}
	return ctx, func(err error) { the.cancel(err); done() }
}

func addressOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

func hostOf(a net.Addr) string { return hostOfAddress(a.String()) }

// hostOfAddress is who shares what there is. A host has all addresses of IPv6 that are
// alike in their first half, so those are one.
func hostOfAddress(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() && !ip.Is4In6() && !ip.IsLoopback() {
		return netip.PrefixFrom(ip.WithZone(""), 64).Masked().String()
	}
	return host
}

// rightsFrom returns the rights of the call that a context belongs to, None
// where it belongs to none.
func rightsFrom(ctx context.Context) Rights {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c.rights
	}
	return None
}

// mayWrite is nil where the call may change something.
func mayWrite(ctx context.Context) error {
	if c, ok := ctx.Value(callKey{}).(*call); ok && c.readOnly {
		return status.Error(codes.PermissionDenied, tables.ErrReadOnly.Error())
	}
	return mayAll(ctx)
}

// mayAll is nil where the call has all rights.
func mayAll(ctx context.Context) error {
	if rightsFrom(ctx) < Admin {
		return status.Error(codes.PermissionDenied, "the token allows reading only; this call takes an admin token")
	}
	return nil
}

// What follows lets another protocol serve the same store, under the same
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
	began := time.Now()
	ctx, end := s.callOf(ctx, c, address)
	return ctx, func(err error) {
		s.ended(ctx, method, began, Status(err))
		end(nil)
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
	local, tcp := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if s.opts.Secret == nil && tcp && local.IP.IsLoopback() && !loopbackHost(r.Host) {
		return forbidden("the header Host is neither localhost nor a loopback address: another site's name may lead here")
	}
	return nil
}

func loopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}
