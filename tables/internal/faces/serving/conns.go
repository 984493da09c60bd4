package serving

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/stats"

	"github.com/go-partd/partd/tables/internal/faces/kinds"
)

// Connections limits connections and their calls, in total and per host. Connections that have not sent a valid token
// yet are called strangers. They may use only a quarter of the limit and are closed first, so that clients without a
// token cannot lock out other clients.
type Connections struct {
	limit     int
	mu        sync.Mutex
	open      map[string]*connection // keyed by both addresses: see keyOf
	hosts     map[string]*HostUsage
	strangers int          // number of strangers among the open connections
	calls     int          // number of running calls
	numLocal  atomic.Int64 // number of Unix-socket connections accepted so far
}

// HostUsage counts one host's open connections, the strangers among them, and its running calls.
type HostUsage struct{ Open, Strangers, Calls int }

type connection struct {
	net.Conn
	limits  *Connections
	host    string
	isKnown bool // whether the client sent a valid token
	calls   int
	opened  time.Time
	since   time.Time // when the last call began or ended, or when the client connected
}

type connectionKey struct{}

// keyOf returns a connection's key in Connections.open. A client may use one port for connections to several listeners,
// so the client's address does not identify a connection.
func keyOf(remote, local net.Addr) string { return remote.String() + " " + local.String() }

const (
	maxCalls     = 4096 // limit on the running calls of all hosts
	MaxHostCalls = 1024 // limit on the running calls of one host
	minHostCalls = 32   // number of calls that a host may run even beyond maxCalls

	strangerGrace = time.Second // how long a new stranger is protected, unless there are too many strangers
)

func newConnections(limit int) *Connections {
	return &Connections{limit: limit, open: map[string]*connection{}, hosts: map[string]*HostUsage{}}
}

// Count returns the number of open connections.
func (c *Connections) Count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// usage returns the counts of a host. It creates them if necessary. mu must be held.
func (c *Connections) usage(host string) *HostUsage {
	u := c.hosts[host]
	if u == nil {
		u = &HostUsage{}
		c.hosts[host] = u
	}
	return u
}

// markKnown records that the connection of ctx's call has sent a valid token.
func (c *Connections) markKnown(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn, _ := ctx.Value(connectionKey{}).(*connection)
	if conn != nil && !conn.isKnown && c.open[conn.key()] == conn {
		conn.isKnown = true
		c.strangers--
		c.usage(conn.host).Strangers--
	}
}

func (c *connection) key() string { return keyOf(c.RemoteAddr(), c.LocalAddr()) }

// drop removes a connection from the counts. mu must be held.
func (c *Connections) drop(conn *connection) {
	key := conn.key()
	if c.open[key] != conn {
		return
	}
	delete(c.open, key)
	u := c.usage(conn.host)
	u.Open--
	if !conn.isKnown {
		u.Strangers--
		c.strangers--
	}
	c.forget(conn.host, u)
}

// forget removes a host's counts if they are all zero.
func (c *Connections) forget(host string, u *HostUsage) {
	if *u == (HostUsage{}) {
		delete(c.hosts, host)
	}
}

// CheckCalls returns an error if a host has too many running calls.
func (c *Connections) CheckCalls(host string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.hosts[host]
	if u != nil && (u.Calls > MaxHostCalls || c.calls > maxCalls && u.Calls > minHostCalls) {
		return kinds.Busy.Errorf("too many calls are running: one address may run %d, or fewer while others run many; try again later", MaxHostCalls)
	}
	return nil
}

// Calls returns the number of running Flight calls.
func (c *Connections) Calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// Hosts returns the counts of each host.
func (c *Connections) Hosts() map[string]HostUsage {
	c.mu.Lock()
	defer c.mu.Unlock()
	hosts := map[string]HostUsage{}
	for host, u := range c.hosts {
		hosts[host] = *u
	}
	return hosts
}

// Listener wraps l so that its connections count towards the limits. At a limit, it first closes another connection, if
// possible a stranger or an idle one. Servers report idleness with SetState (HTTP) or use c as stats.Handler (gRPC).
func (c *Connections) Listener(l net.Listener) net.Listener { return &listener{l, c} }

type listener struct {
	net.Listener
	limits *Connections
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if conn.RemoteAddr().Network() == "unix" {
			conn = &localConn{conn, l.limits.numLocal.Add(1)}
		}
		if c := l.limits.admit(conn); c != nil {
			return c, nil
		}
		_ = conn.Close() // a limit is reached, and no other connection can be closed
	}
}

// admit adds a connection. At a limit, it closes another connection first, or returns nil if none may be closed.
func (c *Connections) admit(conn net.Conn) net.Conn {
	now := time.Now()
	added := &connection{Conn: conn, limits: c, host: HostOf(conn.RemoteAddr().String()), opened: now, since: now}
	c.mu.Lock()
	u := c.usage(added.host)
	var victim *connection
	isFull := true
	switch {
	case u.Open >= c.limit-c.limit/4:
		victim = c.pickVictim(func(o *connection) bool { return o.host == added.host })
	case c.strangers >= max(4, c.limit/4):
		victim = c.pickVictim(func(o *connection) bool { return !o.isKnown })
	case len(c.open) >= c.limit:
		victim = c.pickVictim(func(*connection) bool { return true })
		if victim == nil {
			victim = c.pickGreediest(u.Open + 2)
		}
	default:
		isFull = false
	}
	if isFull && victim == nil {
		c.forget(added.host, u)
		c.mu.Unlock()
		return nil
	}
	if victim != nil {
		c.drop(victim)
	}
	c.open[added.key()] = added
	c.strangers++
	u = c.usage(added.host)
	u.Open++
	u.Strangers++
	c.mu.Unlock()
	if victim != nil {
		_ = victim.Conn.Close() // the client may have disconnected
	}
	return added
}

// pickVictim returns the connection to close for a new one, or nil. It considers only connections for which canClose
// returns true. It prefers strangers (clients without a token), then known clients without a running call, and picks a
// new stranger only as a last resort. Within each class, it picks the longest-idle connection of the host with the most
// strangers or, for known clients, the most connections.
func (c *Connections) pickVictim(canClose func(*connection) bool) (v *connection) {
	var best [2]int
	for _, o := range c.open {
		if !canClose(o) || o.isKnown && o.calls > 0 {
			continue
		}
		u := c.hosts[o.host]
		rank := [2]int{1, u.Open}
		switch {
		case !o.isKnown && (time.Since(o.opened) > strangerGrace || c.strangers >= c.limit/4):
			rank = [2]int{2, u.Strangers}
		case !o.isKnown:
			rank = [2]int{0, u.Strangers}
		}
		if order := slices.Compare(rank[:], best[:]); v == nil || order > 0 || order == 0 && o.idleSince().Before(v.idleSince()) {
			v, best = o, rank
		}
	}
	return v
}

// idleSince returns when a connection's last call began or ended. If the connection has not sent a valid token, it
// returns when the connection was opened.
func (c *connection) idleSince() time.Time {
	if c.isKnown {
		return c.since
	}
	return c.opened
}

// pickGreediest returns the newest connection of the host with the most connections, or nil if all hosts have fewer
// than minOpen connections.
func (c *Connections) pickGreediest(minOpen int) (v *connection) {
	for _, o := range c.open {
		n := c.hosts[o.host].Open
		if n >= minOpen && (v == nil || n > c.hosts[v.host].Open || o.host == v.host && o.opened.After(v.opened)) {
			v = o
		}
	}
	return v
}

func (c *connection) Close() error {
	c.limits.mu.Lock()
	c.limits.drop(c)
	c.limits.mu.Unlock()
	return c.Conn.Close()
}

// TagConn implements stats.Handler. It stores a connection in the context for the connection's calls.
func (c *Connections) TagConn(ctx context.Context, i *stats.ConnTagInfo) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return context.WithValue(ctx, connectionKey{}, c.open[keyOf(i.RemoteAddr, i.LocalAddr)])
}

// WithConnection stores a connection that Listener accepted in the context for the connection's calls. Call it from
// http.Server.ConnContext. For gRPC, TagConn does this.
func WithConnection(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, conn)
}

// CloseConnection closes the connection of a Flight call.
func CloseConnection(ctx context.Context) {
	if c, _ := ctx.Value(connectionKey{}).(*connection); c != nil {
		_ = c.Close() // the client may have disconnected
	}
}

// HandleConn implements stats.Handler.
func (c *Connections) HandleConn(context.Context, stats.ConnStats) {}

// TagRPC implements stats.Handler.
func (c *Connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC counts a connection's calls.
func (c *Connections) HandleRPC(ctx context.Context, e stats.RPCStats) {
	change := 0
	switch e.(type) {
	case *stats.Begin:
		change = 1
	case *stats.End:
		change = -1
	}
	if conn, _ := ctx.Value(connectionKey{}).(*connection); conn != nil && change != 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		conn.calls += change
		conn.since = time.Now()
		c.calls += change
		u := c.usage(conn.host)
		u.Calls += change
		c.forget(conn.host, u)
	}
}

// LocalHost is the host of all clients on a Unix socket, in limits and logs.
const LocalHost = "unix"

// localConn is a connection on a Unix socket. Clients on such a socket have no address, so RemoteAddr returns a unique
// number.
type localConn struct {
	net.Conn
	number int64
}

// RemoteAddr returns the address unix:N.
func (c *localConn) RemoteAddr() net.Addr {
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("%s:%d", LocalHost, c.number)}
}

// SetState records the state of a connection that Listener accepted. Call it from http.Server.ConnState.
func (c *Connections) SetState(conn net.Conn, state http.ConnState) {
	o, ok := conn.(*connection)
	if !ok || state != http.StateActive && state != http.StateIdle {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o.calls, o.since = 0, time.Now()
	if state == http.StateActive {
		o.calls = 1
	}
}
