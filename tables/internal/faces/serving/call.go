package serving

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"path"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

type call struct {
	rights        Rights
	readOnly      bool   // whether the server rejects all changes
	name          string // the token's name
	user          string // identifies the user: by the token's name, or else by the token; "" without a token
	host, conn    string // the client's address, without and with the port
	queries, puts *Limiter

	entry *auditEntry // nil without an audit log

	cancel                       context.CancelCauseFunc
	timeLimit                    *time.Timer // cancels the call after Options.CallTimeout
	holdsQuerySlot, holdsPutSlot atomic.Bool // whether the call holds a query slot or a put slot
	// when the call began to wait for its client to receive a message, in Unix nanoseconds; 0 if it is not waiting
	sendingSince atomic.Int64
}

type callKey struct{}

// NewCall returns the context of a new call from an address, and a function that ends the call.
func (s *Core) NewCall(ctx context.Context, c *Caller, address string) (context.Context, context.CancelCauseFunc) {
	newCall := &call{
		rights: c.Rights, readOnly: s.opts.ReadOnly, name: c.Name, user: c.user,
		conn: address, host: HostOf(address), queries: s.Queries, puts: s.Puts,
		entry: s.newEntry(c, address),
	}
	if c.Rights > None {
		s.Conns.markKnown(ctx)
	}
	ctx, newCall.cancel = context.WithCancelCause(newCall.attachTo(ctx))
	ctx = commit.WithCaller(ctx, c.Name, c.Rights >= Admin)
	newCall.timeLimit = time.AfterFunc(s.opts.CallTimeout, func() { newCall.cancel(errTooLong) })
	if c.Buckets != nil {
		ctx = tables.WithBuckets(ctx, c.Buckets)
	}
	return ctx, func(err error) { newCall.timeLimit.Stop(); newCall.cancel(err) }
}

// RemoveTimeLimit exempts ctx's call from Options.CallTimeout.
func RemoveTimeLimit(ctx context.Context) {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.timeLimit.Stop()
	}
}

// HostOf returns the host in an address, for limits. IPv6 addresses with the same first 64 bits count as one host.
func HostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() && !ip.Is4In6() && !ip.IsLoopback() {
		return netip.PrefixFrom(ip.WithZone(""), 64).Masked().String()
	}
	return host
}

// RequireWrite returns an error unless ctx's call may change tables.
func RequireWrite(ctx context.Context) error {
	if c, ok := ctx.Value(callKey{}).(*call); ok && c.readOnly {
		return kinds.ReadOnly.Errorf("%v", tables.ErrReadOnly)
	}
	return RequireAdmin(ctx)
}

// RequireAdmin returns an error unless ctx's call has the rights of an admin.
func RequireAdmin(ctx context.Context) error {
	if c, ok := ctx.Value(callKey{}).(*call); !ok || c.rights < Admin {
		return kinds.Permission.Errorf("the token allows reading only; this call needs an admin token")
	}
	return nil
}

// Begin begins a call by c from an address; method is the call's name in the metrics. SQL that runs in the returned
// context can use only the caller's buckets. When the call ends, the returned function must be called with the call's
// error.
func (s *Core) Begin(ctx context.Context, c *Caller, address, method string) (context.Context, func(error)) {
	start := time.Now()
	ctx, end := s.NewCall(ctx, c, address)
	return ctx, func(err error) {
		s.RecordEnd(ctx, method, start, Status(err))
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

// execution is work of a call that can be canceled by ID. Canceling needs no right besides the ID, which is random and
// known only to the client that chose or received it. The limits on concurrent calls also limit the number of
// executions.
type execution struct {
	id     string
	cancel context.CancelCauseFunc
}

// Cancellable registers an execution until the returned function is called. In the meantime, Cancel(id) cancels the
// whole call of ctx, so that even a blocked send to the client returns.
func (s *Core) Cancellable(ctx context.Context, id string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	e := &execution{id, cancel}
	if c, ok := ctx.Value(callKey{}).(*call); ok && c.cancel != nil {
		e.cancel = c.cancel
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[e] = struct{}{}
	return ctx, func() {
		cancel(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.running, e)
	}
}

// Cancel cancels all executions with the given ID and reports whether there were any.
func (s *Core) Cancel(id string) (canceled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := range s.running {
		if id != "" && e.id == id {
			e.cancel(errCancelled)
			delete(s.running, e)
			canceled = true
		}
	}
	return canceled
}

// RecordEnd counts a call that has ended. It logs a failed call: as an error if a disk is full, as a warning if the
// server is otherwise at fault, and else for debugging. Unlike clients, the log gets paths in errors; see WithoutPaths.
func (s *Core) RecordEnd(ctx context.Context, method string, start time.Time, err error) {
	code := status.Code(err)
	method = path.Base(method)
	s.calls.WithLabelValues(method, code.String()).Inc()
	s.seconds.WithLabelValues(method).Observe(time.Since(start).Seconds())
	isFault := code == codes.Internal || code == codes.Unknown
	log := s.opts.Logger.Debug
	switch {
	case kinds.IsDiskFull(err):
		s.diskFull.Inc()
		log = s.opts.Logger.Error
	case isFault:
		log = s.opts.Logger.Warn
	}
	c, _ := ctx.Value(callKey{}).(*call)
	c = cmp.Or(c, new(call))
	s.audit(c, method, start, code, err)
	if err != nil {
		log("a call failed", "method", method, "peer", c.conn, "user", c.name, "code", code, "error", status.Convert(err).Message())
	}
}
