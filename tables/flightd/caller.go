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

// Rights say what a token allows.
type Rights uint8

// The rights. Each includes those listed before it.
const (
	None  Rights = iota
	Read         // read rows, and list buckets and tables
	Admin        // do everything, including shutting down the server
)

// call describes a running call and its caller.
type call struct {
	rights        Rights
	readOnly      bool   // no caller may change anything
	user          string // identifies the token; "" without one
	host, conn    string // the address, without and with the port
	queries, puts *limiter
	rows          *putRows // the memory for the rows of a put; nil for other calls

	cancel            context.CancelCauseFunc
	querying, putting atomic.Bool  // whether the call holds such a slot
	sending           atomic.Int64 // when it began to wait for its client to receive a message; 0: it is not waiting
}

type callKey struct{}

// callOf returns the context for a call from an address, and a function that ends the call.
func (s *Server) callOf(ctx context.Context, c *Caller, address string) (context.Context, context.CancelCauseFunc) {
	newCall := &call{
		rights: c.Rights, readOnly: s.opts.ReadOnly, user: c.user,
		conn: address, host: hostOfAddress(address), queries: s.queries, puts: s.puts,
	}
	if c.Rights > None {
		s.conns.markKnown(address)
	}
	ctx, done := context.WithTimeoutCause(newCall.with(ctx), s.opts.CallTimeout, errTooLong)
	ctx, newCall.cancel = context.WithCancelCause(ctx)
	if c.Buckets != nil {
		ctx = tables.WithBuckets(ctx, c.Buckets)
	}
	return ctx, func(err error) { newCall.cancel(err); done() }
}

func addressOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

func hostOf(a net.Addr) string { return hostOfAddress(a.String()) }

// hostOfAddress returns the host of an address, as limits count hosts. IPv6 addresses with the same
// first 64 bits are one host.
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

// rightsFrom returns the rights of the context's call, or None if the context belongs to no call.
func rightsFrom(ctx context.Context) Rights {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c.rights
	}
	return None
}

// requireWrite returns an error unless the call may change something.
func requireWrite(ctx context.Context) error {
	if c, ok := ctx.Value(callKey{}).(*call); ok && c.readOnly {
		return status.Error(codes.PermissionDenied, tables.ErrReadOnly.Error())
	}
	return requireAdmin(ctx)
}

// requireAdmin returns an error unless the call has admin rights.
func requireAdmin(ctx context.Context) error {
	if rightsFrom(ctx) < Admin {
		return status.Error(codes.PermissionDenied, "the token allows reading only; this call needs an admin token")
	}
	return nil
}

// The rest of this file lets other protocols serve the same store, with the same tokens, limits and
// metrics.

// Caller is the holder of a token.
type Caller struct {
	Rights  Rights
	Buckets []string  // the only buckets that the token covers; nil: all
	Expires time.Time // zero without a token
	user    string    // the owner of the slots that its queries use

	readOnly bool // no changes, whatever its rights are
}

// MayUse returns nil if the caller has right r in all of these buckets. Otherwise, the error wraps
// fs.ErrPermission.
func (c *Caller) MayUse(r Rights, buckets ...string) error {
	if c.readOnly && r > Read {
		return fmt.Errorf("%w: %w", tables.ErrReadOnly, fs.ErrPermission)
	}
	if c.Rights < r {
		return fmt.Errorf("the token allows reading only; this needs an admin token: %w", fs.ErrPermission)
	}
	for _, b := range buckets {
		if c.Buckets != nil && !slices.Contains(c.Buckets, b) {
			return fmt.Errorf("the token does not cover bucket %q: %w", b, fs.ErrPermission)
		}
	}
	return nil
}

// Begin returns the context for a call by c from an address, and a function that ends the call with
// its error. SQL in this context can use only the caller's buckets.
func (s *Server) Begin(ctx context.Context, c *Caller, address, method string) (context.Context, func(error)) {
	began := time.Now()
	ctx, end := s.callOf(ctx, c, address)
	return ctx, func(err error) {
		s.recordEnd(ctx, method, began, Status(err))
		end(nil)
	}
}

// Sending runs f, which waits for the call's client to receive something. During f, the call counts
// as stalled.
func Sending(ctx context.Context, f func() error) error {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.sending.Store(time.Now().UnixNano())
		defer c.sending.Store(0)
	}
	return f()
}

// Cancellable returns a context that Cancel can cancel by id, until the returned function is
// called.
func (s *Server) Cancellable(ctx context.Context, id string) (context.Context, func()) {
	return s.sql.running.add(ctx, id)
}

// Cancel cancels all calls with an id, and reports whether there were any.
func (s *Server) Cancel(id string) bool { return s.sql.running.cancel(id) }

// Status returns err with the gRPC status code that Flight SQL's clients expect.
func Status(err error) error {
	if code, ok := causes[err]; ok {
		return status.Error(code, err.Error())
	}
	return sqlError(err)
}

// Options returns the server's options, with the defaults filled in.
func (s *Server) Options() Options { return s.opts }

// RemainingGrace returns how much longer running calls may continue after a shutdown begins.
func (s *Server) RemainingGrace() time.Duration {
	if by := s.deadline.Load(); by != 0 {
		return time.Until(time.Unix(0, by))
	}
	return s.opts.Grace
}

// Listener wraps l so that its connections count against the same limits as Flight's. The server
// may close idle connections to make room for others; SetConnState tells it which are idle.
func (s *Server) Listener(l net.Listener) net.Listener { return s.conns.listener(l) }

// SetConnState records the state of a connection that Listener accepted. Call it from
// http.Server.ConnState.
func (s *Server) SetConnState(conn net.Conn, state http.ConnState) {
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

// CheckSite returns an error if a page of another site made the request. If fetched is true, the
// request is for data rather than a page; then it also refuses requests that only read.
func (s *Server) CheckSite(r *http.Request, fetched bool) error {
	forbidden := func(text string) error { return fmt.Errorf("%s: %w", text, fs.ErrPermission) }
	if err := crossOrigin.Check(r); err != nil {
		return forbidden("the request comes from another site: " + err.Error())
	}
	if site := r.Header.Get("Sec-Fetch-Site"); fetched && site != "" && site != "same-origin" && site != "none" {
		return forbidden("the request comes from another site")
	}
	local, tcp := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if s.opts.Secret == nil && tcp && local.IP.IsLoopback() && !loopbackHost(r.Host) {
		return forbidden("the header Host is neither localhost nor a loopback address, so another site may have made the request")
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
