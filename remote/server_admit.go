package remote

import (
	"net"
	"slices"
	"time"
)

// takeTurns is the number of connections above which each yields after a message.
const takeTurns = 32

// admit starts a connection. If there are too many, it evicts a connection of the
// heaviest tenant. At most a quarter of all may be in their handshake.
func (s *Server) admit(nc net.Conn, o ServeOptions) {
	c := newConn(s, nc, s.lastID.Add(1))
	c.listener = o
	from := s.quotas.heaviest(connections, c.tenant, 1)
	s.mu.Lock()
	var victim *conn
	full := len(s.conns) >= s.opts.MaxConnections
	switch {
	case full:
		victim = s.leastUseful(from, from == c.tenant)
	case len(s.greeting) >= max(4, s.opts.MaxConnections/4):
		victim = s.oldestGreeting()
	}
	if s.closing || full && victim == nil {
		n := len(s.conns)
		s.mu.Unlock()
		s.meters.refused.Add(1)
		s.opts.Logger.Warn("connection refused: too many are open, and all are in use", "peer", peerName(nc), "connections", n)
		c.discard()
		return
	}
	if victim != nil {
		s.forgetLocked(victim)
	}
	s.meters.accepted.Add(1)
	s.conns[c] = struct{}{}
	s.quotas.add(c.tenant, connections, 1)
	s.crowded.Store(len(s.conns) > takeTurns)
	s.greeting = append(s.greeting, c)
	s.running.Add(1)
	s.mu.Unlock()
	if victim != nil {
		victim.evict()
	}
	go func() {
		defer s.running.Done()
		c.run()
	}()
}

// discard closes a connection that was not admitted.
func (c *conn) discard() {
	c.cancel()
	hangUp(c.nc) // nothing was sent
	c.account.close()
	c.server.quotas.leave(c.tenant)
}

// evictOne closes a connection when the process has run out of file descriptors.
func (s *Server) evictOne() {
	from := s.quotas.heaviest(connections, new(tenant), 1)
	s.mu.Lock()
	victim := s.leastUseful(from, false)
	if victim != nil {
		s.forgetLocked(victim)
	}
	s.mu.Unlock()
	if victim != nil {
		victim.evict()
	}
}

// leastUseful returns the connection of a tenant to evict, or nil. Connections that never
// worked come first, then the one idle longest. own means that the new connection belongs
// to the same tenant. Then only connections that have been idle for a while are eligible.
// mu must be held.
func (s *Server) leastUseful(from *tenant, own bool) *conn {
	now := time.Now().UnixNano()
	var leastUsed *conn
	for c := range s.conns {
		if c.tenant != from {
			continue
		}
		idle, worked := time.Duration(now-c.lastUsed.Load()), c.worked.Load()
		enough := min(slowAfter, s.opts.HandshakeTimeout)
		if worked {
			enough = 10 * s.opts.HandshakeTimeout
		}
		if own && (idle < enough || c.account.working.Load() > 0 || len(c.reads) > 0) {
			continue
		}
		if leastUsed == nil || !worked && leastUsed.worked.Load() || worked == leastUsed.worked.Load() && c.lastUsed.Load() < leastUsed.lastUsed.Load() {
			leastUsed = c
		}
	}
	return leastUsed
}

// endHolder closes the tenant's connection with the most open sessions.
func (s *Server) endHolder(from *tenant) {
	s.mu.Lock()
	var heaviest *conn
	for c := range s.conns {
		if c.tenant == from && (heaviest == nil || c.sessions.Load() > heaviest.sessions.Load()) {
			heaviest = c
		}
	}
	s.mu.Unlock()
	if heaviest != nil {
		heaviest.evict()
	}
}

// oldestGreeting returns the oldest connection in its handshake, of the tenant with the
// most such connections. mu must be held.
func (s *Server) oldestGreeting() *conn {
	counts := map[*tenant]int{}
	var heaviest *tenant
	for _, c := range s.greeting {
		if counts[c.tenant]++; heaviest == nil || counts[c.tenant] > counts[heaviest] {
			heaviest = c.tenant
		}
	}
	return s.greeting[slices.IndexFunc(s.greeting, func(c *conn) bool { return c.tenant == heaviest })]
}

func (s *Server) removeGreeting(c *conn) {
	s.greeting = slices.DeleteFunc(s.greeting, func(g *conn) bool { return g == c })
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(c)
}

func (s *Server) forgetLocked(c *conn) {
	s.removeGreeting(c)
	if _, is := s.conns[c]; is {
		delete(s.conns, c)
		s.quotas.add(c.tenant, connections, -1)
		s.crowded.Store(len(s.conns) > takeTurns)
	}
}
