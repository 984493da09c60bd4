package adminhttp

import (
	"net"
	"net/http"
	"slices"
	"sync"
)

// MaxConnections is the maximum number of open connections of Serve.
const MaxConnections = 64

// connections closes connections beyond MaxConnections.
type connections struct {
	mu     sync.Mutex
	idle   []net.Conn // connections without a request, the one that has been idle for longest first
	active []net.Conn // connections with a request, the oldest request first
}

// setState is for http.Server.ConnState.
func (c *connections) setState(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(conn)
	switch state {
	case http.StateNew, http.StateIdle:
		c.idle = append(c.idle, conn)
	case http.StateActive:
		c.active = append(c.active, conn)
	}
	if state == http.StateNew && len(c.idle)+len(c.active) > MaxConnections {
		victim := slices.Concat(c.idle[:len(c.idle)-1], c.active)[0]
		c.remove(victim)
		_ = victim.Close()
	}
}

// remove forgets a connection. mu must be held.
func (c *connections) remove(conn net.Conn) {
	isConn := func(o net.Conn) bool { return o == conn }
	c.idle, c.active = slices.DeleteFunc(c.idle, isConn), slices.DeleteFunc(c.active, isConn)
}
