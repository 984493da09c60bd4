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

// connections bounds how many there are, and their calls, in all and for each host.
// Strangers are those on which no valid token came yet: they have a quarter of the
// places, and are the first to go. So who only connects shuts out nobody.
type connections struct {
	limit     int
	mu        sync.Mutex
	open      map[string]*connection // by the peer's address
	hosts     map[string]*hostUse
	strangers int
	calls     int
}

// hostUse is what a host has of connections.
type hostUse struct{ open, strangers, calls int }

type connection struct {
	net.Conn
	all    *connections
	host   string
	known  bool // a valid token came on it
	calls  int
	opened time.Time
	since  time.Time // of the last call's beginning or end, or of the connecting
}

type connectionKey struct{}

const (
	maxCalls     = 4096 // at a time
	maxHostCalls = 1024
	leastCalls   = 32 // that a host has, however many others have

	greeting = time.Second // that a stranger has where only the number of all is too large
)

func newConnections(limit int) *connections {
	return &connections{limit: limit, open: map[string]*connection{}, hosts: map[string]*hostUse{}}
}

func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// use is what a host has; mu is held.
func (c *connections) use(host string) *hostUse {
	u := c.hosts[host]
	if u == nil {
		u = &hostUse{}
		c.hosts[host] = u
	}
	return u
}

// know notes that a valid token came on a connection.
func (c *connections) know(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.open[address]; n != nil && !n.known {
		n.known = true
		c.strangers--
		c.use(n.host).strangers--
	}
}

// drop takes a connection out; mu is held.
func (c *connections) drop(n *connection) {
	address := n.RemoteAddr().String()
	if c.open[address] != n {
		return
	}
	delete(c.open, address)
	u := c.use(n.host)
	u.open--
	if !n.known {
		u.strangers--
		c.strangers--
	}
	c.forget(n.host, u)
}

func (c *connections) forget(host string, u *hostUse) {
	if *u == (hostUse{}) {
		delete(c.hosts, host)
	}
}

// crowded reports whether a host, or all together, have too many calls.
func (c *connections) crowded(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.hosts[host]
	return u != nil && (u.calls > maxHostCalls || c.calls > maxCalls && u.calls > leastCalls)
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
		if c := l.all.take(conn); c != nil {
			return c, nil
		}
		_ = conn.Close() // all others are busy
	}
}

// take returns nil where there is no room.
func (c *connections) take(conn net.Conn) net.Conn {
	now := time.Now()
	n := &connection{Conn: conn, all: c, host: hostOf(conn.RemoteAddr()), opened: now, since: now}
	c.mu.Lock()
	u := c.use(n.host)
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
	u = c.use(n.host)
	u.open++
	u.strangers++
	c.mu.Unlock()
	if victim != nil {
		_ = victim.Conn.Close()
	}
	return n
}

// victim is the connection to be closed for another: a stranger, then one without a
// call, of the host with the most of them, and of those the oldest.
func (c *connections) victim(may func(*connection) bool) (v *connection) {
	var best [2]int
	for _, o := range c.open {
		if !may(o) || o.known && o.calls > 0 {
			continue
		}
		u := c.hosts[o.host]
		rank := [2]int{1, u.open}
		switch {
		case !o.known && (time.Since(o.opened) > greeting || c.strangers >= c.limit/4):
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

// idleSince is since when a connection does nothing useful.
func (c *connection) idleSince() time.Time {
	if c.known {
		return c.since
	}
	return c.opened
}

// greediest is the newest connection of a host that has so many at least.
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

// TagConn is stats.Handler's, as are those below: gRPC says which connection a
// call is on.
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

// HandleConn does nothing.
func (c *connections) HandleConn(context.Context, stats.ConnStats) {}

// TagRPC adds nothing.
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
		u := c.use(conn.host)
		u.calls += change
		c.forget(conn.host, u)
	}
}

// localHost is the host of all who connect to a Unix socket, by which they are known in
// limits and logs.
const localHost = "unix"

// localConn is a connection to a Unix socket, whose client has no address of its own, by
// a number.
type localConn struct {
	net.Conn
	number int64
}

var localConns atomic.Int64

// RemoteAddr is unix:N.
func (c *localConn) RemoteAddr() net.Addr {
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("%s:%d", localHost, c.number)}
}
