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

// Rights are the permissions that a token grants.
type Rights uint8

// Each of the rights includes the rights listed before it.
const (
	None  Rights = iota
	Read         // read rows, and list buckets and tables
	Admin        // do everything, including shutting down the server
)

type call struct {
	rights        Rights
	readOnly      bool   // whether the server rejects all changes
	user          string // identifies the token; "" without one
	host, conn    string // the client's address, without and with the port
	queries, puts *limiter
	rows          *putRows // memory for the rows of a put; nil for other calls

	cancel                       context.CancelCauseFunc
	holdsQuerySlot, holdsPutSlot atomic.Bool  // whether the call holds a slot of queries, or of puts
	sendingSince                 atomic.Int64 // when the call began to wait for its client to receive a message, in Unix nanoseconds; 0 if the call is not waiting
}

type callKey struct{}

// newCallContext returns the context of a new call from an address, and a function that ends the call.
func (s *Server) newCallContext(ctx context.Context, c *Caller, address string) (context.Context, context.CancelCauseFunc) {
	newCall := &call{
		rights: c.Rights, readOnly: s.opts.ReadOnly, user: c.user,
		conn: address, host: hostOfAddress(address), queries: s.queries, puts: s.puts,
	}
	if c.Rights > None {
		s.conns.markKnown(address)
	}
	ctx, done := context.WithTimeoutCause(newCall.attachTo(ctx), s.opts.CallTimeout, errTooLong)
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

// hostOfAddress returns the host in an address, for limits per host. IPv6 addresses with the same
// first 64 bits count as one host.
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

func rightsFrom(ctx context.Context) Rights {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c.rights
	}
	return None
}

func requireWrite(ctx context.Context) error {
	if c, ok := ctx.Value(callKey{}).(*call); ok && c.readOnly {
		return status.Error(codes.PermissionDenied, tables.ErrReadOnly.Error())
	}
	return requireAdmin(ctx)
}

func requireAdmin(ctx context.Context) error {
	if rightsFrom(ctx) < Admin {
		return status.Error(codes.PermissionDenied, "the token allows reading only; this call needs an admin token")
	}
	return nil
}

// With the declarations below, servers of other protocols, such as HTTP, share a Server's tokens, limits and metrics.

// Caller is the holder of a token.
type Caller struct {
	Rights  Rights
	Buckets []string  // buckets that the token covers; nil means all
	Expires time.Time // when the token expires; zero without a token
	user    string    // identifies the token; limits count the calls of each user

	readOnly bool // whether the server rejects changes, whatever the rights are
}

// CheckAccess returns an error that wraps fs.ErrPermission unless the caller has right r in all of the buckets.
func (c *Caller) CheckAccess(r Rights, buckets ...string) error {
	if c.readOnly && r > Read {
		return fmt.Errorf("%w: %w", tables.ErrReadOnly, fs.ErrPermission)
	}
	if c.Rights < r {
		return fmt.Errorf("the token allows reading only; this request needs an admin token: %w", fs.ErrPermission)
	}
	for _, b := range buckets {
		if c.Buckets != nil && !slices.Contains(c.Buckets, b) {
			return fmt.Errorf("the token does not cover bucket %q: %w", b, fs.ErrPermission)
		}
	}
	return nil
}

// Begin begins a call by c from an address; method is the call's name in the metrics. Begin returns the call's context,
// in which SQL can use only the caller's buckets, and a function. When the call ends, pass the call's error to this
// function.
func (s *Server) Begin(ctx context.Context, c *Caller, address, method string) (context.Context, func(error)) {
	start := time.Now()
	ctx, end := s.newCallContext(ctx, c, address)
	return ctx, func(err error) {
		s.recordEnd(ctx, method, start, Status(err))
		end(nil)
	}
}

// Sending runs f, which sends data to the call's client. While f runs, the call counts as waiting for its client.
func Sending(ctx context.Context, f func() error) error {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.sendingSince.Store(time.Now().UnixNano())
		defer c.sendingSince.Store(0)
	}
	return f()
}

// Cancellable returns a context that Cancel(id) cancels. The caller must call the returned function at the end.
func (s *Server) Cancellable(ctx context.Context, id string) (context.Context, func()) {
	return s.sql.running.add(ctx, id)
}

// Cancel cancels all calls with an id, and reports whether there were any.
func (s *Server) Cancel(id string) bool { return s.sql.running.cancel(id) }

// Status returns err with the gRPC status code that Flight SQL's clients expect.
func Status(err error) error {
	if code, ok := codeByCause[err]; ok {
		return status.Error(code, err.Error())
	}
	return sqlError(err)
}

// Options returns the server's options, with the defaults filled in.
func (s *Server) Options() Options { return s.opts }

// RemainingGrace returns how much longer running calls may continue. Before a shutdown begins, it
// returns Options.Grace.
func (s *Server) RemainingGrace() time.Duration {
	if deadline := s.deadline.Load(); deadline != 0 {
		return time.Until(time.Unix(0, deadline))
	}
	return s.opts.Grace
}

// Listener wraps l so that its connections count against the same limits as Flight's. At a limit,
// the server closes idle connections; SetConnState must report which connections are idle.
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

// CheckSite returns an error if a page of another site made the request. Other sites may link to a page of this server,
// but not read the server's data. forData says whether the request is for data.
func (s *Server) CheckSite(r *http.Request, forData bool) error {
	forbidden := func(reason string) error { return fmt.Errorf("%s: %w", reason, fs.ErrPermission) }
	if err := crossOrigin.Check(r); err != nil {
		return forbidden("the request comes from another site: " + err.Error())
	}
	if site := r.Header.Get("Sec-Fetch-Site"); forData && site != "" && site != "same-origin" && site != "none" {
		return forbidden("the request comes from another site")
	}
	local, tcp := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if s.opts.Secret == nil && tcp && local.IP.IsLoopback() && !loopbackHost(r.Host) {
		return forbidden("the request may come from another site: its header Host is neither localhost nor a loopback address")
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
