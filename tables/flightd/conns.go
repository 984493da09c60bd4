package flightd

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/stats"
)

// connections bounds how many there are. Where there is no room for a new one,
// one without a call is closed: of the host with the most of them, the one that
// has been idle longest. Who only connects shuts out nobody.
type connections struct {
	limit int
	mu    sync.Mutex
	open  map[string]*connection // by the peer's address
}

type connection struct {
	net.Conn
	all   *connections
	host  string
	calls int
	since time.Time // of the last call's end, or of the connecting
}

type connectionKey struct{}

func newConnections(limit int) *connections {
	return &connections{limit: limit, open: map[string]*connection{}}
}

func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
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
		if c := l.all.take(numbered(conn)); c != nil {
			return c, nil
		}
		_ = conn.Close() // all others are busy
	}
}

// take returns nil where there is no room.
func (c *connections) take(conn net.Conn) net.Conn {
	n := &connection{Conn: conn, all: c, host: hostOf(conn.RemoteAddr()), since: time.Now()}
	c.mu.Lock()
	var victim *connection
	if len(c.open) >= c.limit {
		if victim = c.victim(); victim == nil {
			c.mu.Unlock()
			return nil
		}
		delete(c.open, victim.RemoteAddr().String())
	}
	c.open[conn.RemoteAddr().String()] = n
	c.mu.Unlock()
	if victim != nil {
		_ = victim.Conn.Close()
	}
	return n
}

// victim is the connection to be closed for another.
func (c *connections) victim() (v *connection) {
	hosts := map[string]int{}
	for _, o := range c.open {
		hosts[o.host]++
	}
	for _, o := range c.open {
		if o.calls == 0 && (v == nil || hosts[o.host] > hosts[v.host] || hosts[o.host] == hosts[v.host] && o.since.Before(v.since)) {
			v = o
		}
	}
	return v
}

func (c *connection) Close() error {
	c.all.mu.Lock()
	if address := c.RemoteAddr().String(); c.all.open[address] == c {
		delete(c.all.open, address)
	}
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

// closeConnection closes the connection of a call.
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
	}
}
