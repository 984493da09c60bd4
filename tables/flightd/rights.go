package flightd

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"

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

// newCall is a call of a caller at an address.
func (s *Server) newCall(c *Caller, address string) *call {
	return &call{rights: c.Rights, readOnly: s.opts.ReadOnly, user: c.user, conn: address, host: hostOfAddress(address), queries: s.queries, puts: s.puts}
}

// withCall is the context of a call whose caller is known.
func (s *Server) withCall(ctx context.Context, c *Caller) context.Context {
	return s.newCall(c, addressOf(ctx)).with(ctx)
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
