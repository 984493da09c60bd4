package flightd

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/stats"
)

// connections limits connections and their calls, in total and for each host. Connections that have not sent a valid
// token yet are strangers. They may use only a quarter of the limit and are closed first, so that clients without a
// token cannot lock out other clients.
type connections struct {
	limit     int
	mu        sync.Mutex
	open      map[string]*connection // keyed by the peer's address
	hosts     map[string]*hostUsage
	strangers int // open connections that are strangers
	calls     int // running calls
}

type hostUsage struct{ open, strangers, calls int }

type connection struct {
	net.Conn
	counts  *connections
	host    string
	isKnown bool // whether the client sent a valid token
	calls   int
	opened  time.Time
	since   time.Time // when the last call began or ended, or when the client connected
}

type connectionKey struct{}

const (
	maxCalls     = 4096 // limit on the running calls of all hosts
	maxHostCalls = 1024 // limit on the running calls of one host
	minHostCalls = 32   // calls that a host may run even above maxCalls

	strangerGrace = time.Second // how long a new stranger is kept open, unless there are too many strangers
)

func newConnections(limit int) *connections {
	return &connections{limit: limit, open: map[string]*connection{}, hosts: map[string]*hostUsage{}}
}

func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// usage returns the counts of a host, and creates them if necessary. mu must be held.
func (c *connections) usage(host string) *hostUsage {
	u := c.hosts[host]
	if u == nil {
		u = &hostUsage{}
		c.hosts[host] = u
	}
	return u
}

func (c *connections) markKnown(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.open[address]; conn != nil && !conn.isKnown {
		conn.isKnown = true
		c.strangers--
		c.usage(conn.host).strangers--
	}
}

// drop removes a connection from the counts. mu must be held.
func (c *connections) drop(conn *connection) {
	address := conn.RemoteAddr().String()
	if c.open[address] != conn {
		return
	}
	delete(c.open, address)
	u := c.usage(conn.host)
	u.open--
	if !conn.isKnown {
		u.strangers--
		c.strangers--
	}
	c.forget(conn.host, u)
}

// forget removes a host's counts if they are all zero.
func (c *connections) forget(host string, u *hostUsage) {
	if *u == (hostUsage{}) {
		delete(c.hosts, host)
	}
}

func (c *connections) isCrowded(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.hosts[host]
	return u != nil && (u.calls > maxHostCalls || c.calls > maxCalls && u.calls > minHostCalls)
}

func (c *connections) listener(l net.Listener) net.Listener { return &listener{l, c} }

type listener struct {
	net.Listener
	counts *connections
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if conn.RemoteAddr().Network() == "unix" {
			conn = &localConn{conn, localConns.Add(1)}
		}
		if c := l.counts.admit(conn); c != nil {
			return c, nil
		}
		_ = conn.Close() // a limit is reached, and no other connection can be closed
	}
}

// admit adds a connection. At a limit, it closes another connection, or returns nil if none may be closed.
func (c *connections) admit(conn net.Conn) net.Conn {
	now := time.Now()
	added := &connection{Conn: conn, counts: c, host: hostOf(conn.RemoteAddr()), opened: now, since: now}
	c.mu.Lock()
	u := c.usage(added.host)
	var victim *connection
	isFull := true
	switch {
	case u.open >= c.limit-c.limit/4:
		victim = c.pickVictim(func(o *connection) bool { return o.host == added.host })
	case c.strangers >= max(4, c.limit/4):
		victim = c.pickVictim(func(o *connection) bool { return !o.isKnown })
	case len(c.open) >= c.limit:
		if victim = c.pickVictim(func(*connection) bool { return true }); victim == nil {
			victim = c.pickGreediest(u.open + 2)
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
	c.open[conn.RemoteAddr().String()] = added
	c.strangers++
	u = c.usage(added.host)
	u.open++
	u.strangers++
	c.mu.Unlock()
	if victim != nil {
		_ = victim.Conn.Close()
	}
	return added
}

// pickVictim returns the connection to close for a new one, or nil. It considers only connections for which canClose
// returns true. It prefers strangers (clients without a token), then known clients without a running call, and picks a
// new stranger only as a last resort. Within each class, it picks, from the host with the most connections, the
// connection that has been idle for longest.
func (c *connections) pickVictim(canClose func(*connection) bool) (v *connection) {
	var best [2]int
	for _, o := range c.open {
		if !canClose(o) || o.isKnown && o.calls > 0 {
			continue
		}
		u := c.hosts[o.host]
		rank := [2]int{1, u.open}
		switch {
		case !o.isKnown && (time.Since(o.opened) > strangerGrace || c.strangers >= c.limit/4):
			rank = [2]int{2, u.strangers}
		case !o.isKnown:
			rank = [2]int{0, u.strangers}
		}
		if order := slices.Compare(rank[:], best[:]); v == nil || order > 0 || order == 0 && o.idleSince().Before(v.idleSince()) {
			v, best = o, rank
		}
	}
	return v
}

// idleSince returns when a connection's last call began or ended or, if the connection has not sent a valid token,
// when it was opened.
func (c *connection) idleSince() time.Time {
	if c.isKnown {
		return c.since
	}
	return c.opened
}

// pickGreediest returns the newest connection of the host with the most connections, or nil if all hosts have fewer
// than minOpen connections.
func (c *connections) pickGreediest(minOpen int) (v *connection) {
	for _, o := range c.open {
		n := c.hosts[o.host].open
		if n >= minOpen && (v == nil || n > c.hosts[v.host].open || o.host == v.host && o.opened.After(v.opened)) {
			v = o
		}
	}
	return v
}

func (c *connection) Close() error {
	c.counts.mu.Lock()
	c.counts.drop(c)
	c.counts.mu.Unlock()
	return c.Conn.Close()
}

// TagConn implements stats.Handler. It stores a connection in the context of the connection's calls.
func (c *connections) TagConn(ctx context.Context, i *stats.ConnTagInfo) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return context.WithValue(ctx, connectionKey{}, c.open[i.RemoteAddr.String()])
}

func closeConnection(ctx context.Context) {
	if c, _ := ctx.Value(connectionKey{}).(*connection); c != nil {
		_ = c.Close()
	}
}

// HandleConn implements stats.Handler.
func (c *connections) HandleConn(context.Context, stats.ConnStats) {}

// TagRPC implements stats.Handler.
func (c *connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC counts the calls of a connection.
func (c *connections) HandleRPC(ctx context.Context, e stats.RPCStats) {
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
		u.calls += change
		c.forget(conn.host, u)
	}
}

// localHost is the host of all clients on a Unix socket, in limits and logs.
const localHost = "unix"

// localConn is a connection on a Unix socket. Such clients have no address, so RemoteAddr returns a unique number.
type localConn struct {
	net.Conn
	number int64
}

var localConns atomic.Int64

// RemoteAddr returns the address unix:N.
func (c *localConn) RemoteAddr() net.Addr {
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("%s:%d", localHost, c.number)}
}
