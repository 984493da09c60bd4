package remote

import (
	"net"
	"sync"

	"github.com/go-partd/partd"
)

// conn is a connection of the server. Its goroutine reads messages and applies changes in the
// order of arrival. A few other goroutines answer requests that only read, which can take longer.
type conn struct {
	transport
	access
	server *Server

	running  sync.WaitGroup
	handles  handles
	sessions connSessions
	entries  []partd.Entry // reused to decode changes
	pageSize int           // approximate maximum size of a reply
}

func newConn(s *Server, nc net.Conn, id uint64) *conn {
	c := &conn{server: s, pageSize: minPage}
	c.transport = transport{id: id, opts: &s.opts, meters: &s.meters, budget: &s.budget, base: s.base}
	c.transport.init(nc)
	c.access = access{peer: &c.transport, logins: &s.logins, recorder: &s.recorder, space: s.space}
	c.access.enterSpace = func(name string) (*space, error) {
		p, err := s.spaces.enter(name)
		if err == nil {
			c.handles.space = p
		}
		return p, err
	}
	c.sessions = connSessions{peer: &c.transport, closeHolder: s.closeHolder}
	h := &c.handles
	h.table, h.tenant, h.space, h.open = &s.handles, c.tenant, s.space, map[uint64]*openHandle{}
	return c
}

func (c *conn) newAnswer() *answerBuilder {
	a := &answerBuilder{allowance: *c.newAllowance(), builder: newBuilder(), pageSize: c.budget.pageSize(c.pageSize)}
	if cap(a.buf) > freeBytes {
		// The recycled buffer may be larger than this answer needs, and a slow peer could
		// tie it up for a long time.
		if c.Crowded() {
			a.builder = builder{buf: make([]byte, headRoom, 4<<10)}
		} else {
			a.force(int64(cap(a.buf)))
		}
	}
	// Reserve the memory of the store's reader together with the memory of the data.
	a.minFirstRaise = int64(a.pageSize+a.pageSize/2) + c.handles.cost(false)
	return a
}
