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

// connections limits connections and their calls, in total and for each host. Connections
// that have not sent a valid token yet are strangers. They may use a quarter of the
// places, and are closed first, so that connecting without a token cannot lock others
// out.
type connections struct {
	limit     int
	mu        sync.Mutex
	open      map[string]*connection // by the peer's address
	hosts     map[string]*hostUsage
	strangers int
	calls     int
}

// hostUsage counts the connections and calls of a host.
type hostUsage struct{ open, strangers, calls int }

type connection struct {
	net.Conn
	all    *connections
	host   string
	known  bool // a valid token arrived on it
	calls  int
	opened time.Time
	since  time.Time // when its last call began or ended, or else when it connected
}

type connectionKey struct{}

const (
	maxCalls     = 4096 // at the same time
	maxHostCalls = 1024
	minHostCalls = 32 // calls that a host may always have

	strangerGrace = time.Second // how long a stranger is spared unless there are too many strangers
)

func newConnections(limit int) *connections {
	return &connections{limit: limit, open: map[string]*connection{}, hosts: map[string]*hostUsage{}}
}

func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// usage returns the counts of a host. mu must be held.
func (c *connections) usage(host string) *hostUsage {
	u := c.hosts[host]
	if u == nil {
		u = &hostUsage{}
		c.hosts[host] = u
	}
	return u
}

// markKnown records that a connection sent a valid token.
func (c *connections) markKnown(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.open[address]; n != nil && !n.known {
		n.known = true
		c.strangers--
		c.usage(n.host).strangers--
	}
}

// drop removes a connection from the counts. mu must be held.
func (c *connections) drop(n *connection) {
	address := n.RemoteAddr().String()
	if c.open[address] != n {
		return
	}
	delete(c.open, address)
	u := c.usage(n.host)
	u.open--
	if !n.known {
		u.strangers--
		c.strangers--
	}
	c.forget(n.host, u)
}

func (c *connections) forget(host string, u *hostUsage) {
	if *u == (hostUsage{}) {
		delete(c.hosts, host)
	}
}

// isCrowded reports whether to reject another call of a host.
func (c *connections) isCrowded(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.hosts[host]
	return u != nil && (u.calls > maxHostCalls || c.calls > maxCalls && u.calls > minHostCalls)
}

func (c *connections) listener(l net.Listener) net.Listener { return &listener{l, c} }

type listener struct {
	net.Listener
	all *connections
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
		if c := l.all.admit(conn); c != nil {
			return c, nil
		}
		_ = conn.Close() // all other connections are busy
	}
}

// admit adds a connection. It returns nil if there is no room.
func (c *connections) admit(conn net.Conn) net.Conn {
	now := time.Now()
	n := &connection{Conn: conn, all: c, host: hostOf(conn.RemoteAddr()), opened: now, since: now}
	c.mu.Lock()
	u := c.usage(n.host)
	var victim *connection
	full := true
	switch {
	case u.open >= c.limit-c.limit/4:
		victim = c.victim(func(o *connection) bool { return o.host == n.host })
	case c.strangers >= max(4, c.limit/4):
		victim = c.victim(func(o *connection) bool { return !o.known })
	case len(c.open) >= c.limit:
		if victim = c.victim(func(*connection) bool { return true }); victim == nil {
			victim = c.greediest(u.open + 2)
		}
	default:
		full = false
	}
	if full && victim == nil {
		c.forget(n.host, u)
		c.mu.Unlock()
		return nil
	}
	if victim != nil {
		c.drop(victim)
	}
	c.open[conn.RemoteAddr().String()] = n
	c.strangers++
	u = c.usage(n.host)
	u.open++
	u.strangers++
	c.mu.Unlock()
	if victim != nil {
		_ = victim.Conn.Close()
	}
	return n
}

// victim returns the connection to close for a new one, or nil. It prefers strangers,
// then connections without a call, among these the host with the most, then the oldest.
func (c *connections) victim(may func(*connection) bool) (v *connection) {
	var best [2]int
	for _, o := range c.open {
		if !may(o) || o.known && o.calls > 0 {
			continue
		}
		u := c.hosts[o.host]
		rank := [2]int{1, u.open}
		switch {
		case !o.known && (time.Since(o.opened) > strangerGrace || c.strangers >= c.limit/4):
			rank = [2]int{2, u.strangers}
		case !o.known:
			rank = [2]int{0, u.strangers}
		}
		if order := slices.Compare(rank[:], best[:]); v == nil || order > 0 || order == 0 && o.idleSince().Before(v.idleSince()) {
			v, best = o, rank
		}
	}
	return v
}

// idleSince returns when a connection was last busy. For a stranger, it returns when it
// was opened.
func (c *connection) idleSince() time.Time {
	if c.known {
		return c.since
	}
	return c.opened
}

// greediest returns the newest connection of the host with the most connections, or nil if all
// hosts have fewer than least.
func (c *connections) greediest(least int) (v *connection) {
	for _, o := range c.open {
		n := c.hosts[o.host].open
		if n >= least && (v == nil || n > c.hosts[v.host].open || o.host == v.host && o.opened.After(v.opened)) {
			v = o
		}
	}
	return v
}

func (c *connection) Close() error {
	c.all.mu.Lock()
	c.all.drop(c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// TagConn implements stats.Handler. It stores the connection in the context of its calls.
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

// localConn is a connection on a Unix socket. Its client has no address, so it gets a number.
type localConn struct {
	net.Conn
	number int64
}

var localConns atomic.Int64

// RemoteAddr returns the address unix:N.
func (c *localConn) RemoteAddr() net.Addr {
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("%s:%d", localHost, c.number)}
}
