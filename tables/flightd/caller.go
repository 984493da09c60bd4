package flightd

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"time"

	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
)

// What is in this file lets another protocol serve the same store, under the same
// tokens, limits and figures.

// Caller is whose a token is.
type Caller struct {
	Rights  Rights
	Buckets []string  // the only ones that it is for; nil: all
	Expires time.Time // zero where there is no token
	user    string    // whose slots its queries take
}

// MayUse is nil where the caller has the right, in these buckets.
func (c *Caller) MayUse(r Rights, buckets ...string) error {
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

// Begin is the context of a caller's call from an address, and what ends it with
// its error. Its statements are held to the caller's buckets.
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

// Sending runs f, which waits for the call's client to take something.
func Sending(ctx context.Context, f func() error) error {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.sending.Store(time.Now().UnixNano())
		defer c.sending.Store(0)
	}
	return f()
}

// Cancellable is the context of what Cancel ends by its id, until the function is
// called.
func (s *Server) Cancellable(ctx context.Context, id string) (context.Context, func()) {
	return s.sql.running.add(ctx, id)
}

// Cancel ends what runs under an id, and reports whether anything did.
func (s *Server) Cancel(id string) bool { return s.sql.running.cancel(id) }

// Status is an error with the code by which clients of Flight SQL know it.
func Status(err error) error {
	if code, ok := causes[err]; ok {
		return status.Error(code, err.Error())
	}
	return sqlError(err)
}

// Options returns those of the server, with what is the default.
func (s *Server) Options() Options { return s.opts }

// Left is how long calls under way have once the server is to end.
func (s *Server) Left() time.Duration {
	if by := s.endsBy.Load(); by != 0 {
		return time.Until(time.Unix(0, by))
	}
	return s.opts.Grace
}

// Listener is one whose connections count as those of Flight. Busy says of one of
// them whether a request is on it: those that are idle make room for others.
func (s *Server) Listener(l net.Listener) net.Listener { return s.conns.listener(l) }

// Busy is for Listener.
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
