package flightd

import (
	"fmt"
	"net"
	"sync/atomic"
)

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

// numbered gives connections that have no address one.
func numbered(conn net.Conn) net.Conn {
	if conn.RemoteAddr().Network() != "unix" {
		return conn
	}
	return &localConn{conn, localConns.Add(1)}
}

// RemoteAddr is unix:N.
func (c *localConn) RemoteAddr() net.Addr {
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("%s:%d", localHost, c.number)}
}
