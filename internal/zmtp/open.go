package zmtp

import (
	"fmt"
	"net"
	"time"

	"github.com/go-zeromq/zmq4"
)

// Role is the type of our socket.
type Role string

// The roles.
const (
	Router Role = "ROUTER" // of a server
	Dealer Role = "DEALER" // of a client
)

// peers are the socket types that a role speaks with here. REQ and REP are not
// among them: they put an empty frame before each message.
func (r Role) peers() []string {
	if r == Router {
		return []string{"DEALER", "ROUTER"}
	}
	return []string{"ROUTER", "DEALER"}
}

// Open does the handshake over a connection, within a time. It returns what the
// peer sent already beyond it. It does not close the connection.
func Open(c net.Conn, role Role, timeout time.Duration) (rest []byte, err error) {
	g := newGuard(c)
	if err := g.deadline(timeout); err != nil {
		return nil, err
	}
	if err := open(g, role); err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return g.rest(), nil
}

// open lets zmq4 open the connection. It has panicked on hostile peers; what
// was found is kept away from it, and the rest ends that connection alone.
func open(g *Guard, role Role) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = protocolErrorf("the handshake panicked: %v", p)
		}
	}()
	_, err = zmq4.Open(g, null{role, role.peers()}, zmq4.SocketType(role), nil, role == Router, nil)
	if err != nil {
		return fmt.Errorf("no ZMTP connection: %w", err)
	}
	return nil
}
