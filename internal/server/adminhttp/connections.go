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
	mu   sync.Mutex
	open []net.Conn // the least recently used first
}

// setState is for http.Server.ConnState.
func (c *connections) setState(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = slices.DeleteFunc(c.open, func(o net.Conn) bool { return o == conn })
	if state != http.StateClosed && state != http.StateHijacked {
		c.open = append(c.open, conn)
	}
	if len(c.open) > MaxConnections {
		_ = c.open[0].Close()
		c.open = slices.Delete(c.open, 0, 1)
	}
}
