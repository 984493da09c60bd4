package remote

import (
	"net"
	"slices"
	"time"
)

// turnThreshold is the number of connections above which the connections of a tenant take turns:
// see [tenant.takeTurn].
const turnThreshold = 32

// admit starts a connection. At MaxConnections, it evicts a connection of the tenant (peer) with
// the most connections. At most a quarter of MaxConnections may be in their handshake.
func (s *Server) admit(nc net.Conn, o ServeOptions) {
	c := newConn(s, nc, s.lastID.Add(1))
	c.serveOptions = o
	heaviest := s.quotas.heaviest(connections, c.tenant, 1)
	s.mu.Lock()
	var victim *conn
	full := len(s.conns) >= s.opts.MaxConnections
	switch {
	case full:
		victim = s.leastUseful(heaviest, heaviest == c.tenant)
	case len(s.handshaking) >= max(4, s.opts.MaxConnections/4):
		victim = s.oldestHandshake()
	}
	if s.closing || full && victim == nil {
		n := len(s.conns)
		s.mu.Unlock()
		s.meters.refusedConns.Add(1)
		s.opts.Logger.Warn("connection refused: too many are open, and all are in use", "peer", peerName(nc), "connections", n)
		c.discard()
		return
	}
	if victim != nil {
		s.forgetLocked(victim)
	}
	s.meters.acceptedConns.Add(1)
	s.conns[c] = struct{}{}
	s.quotas.add(c.tenant, connections, 1)
	s.crowded.Store(len(s.conns) > turnThreshold)
	s.handshaking = append(s.handshaking, c)
	s.running.Go(c.run)
	s.mu.Unlock()
	if victim != nil {
		victim.evict()
	}
}

func (c *conn) discard() {
	c.cancel()
	hangUp(c.nc)
	c.account.close()
	c.server.quotas.leave(c.tenant)
}

// evictOne closes a connection when the process has run out of file descriptors.
func (s *Server) evictOne() {
	heaviest := s.quotas.heaviest(connections, new(tenant), 1)
	s.mu.Lock()
	victim := s.leastUseful(heaviest, false)
	if victim != nil {
		s.forgetLocked(victim)
	}
	s.mu.Unlock()
	if victim != nil {
		victim.evict()
	}
}

// leastUseful returns which of owner's connections to evict, or nil. It prefers connections that never
// sent a request, then the connection that was idle longest. If sameTenant is true, the connection
// is evicted for another connection of owner, so it must have been idle for a while. mu must be
// held.
func (s *Server) leastUseful(owner *tenant, sameTenant bool) *conn {
	now := time.Now().UnixNano()
	var best *conn
	for c := range s.conns {
		if c.tenant != owner {
			continue
		}
		idle, hasRequested := time.Duration(now-c.lastUsed.Load()), c.hasRequested.Load()
		minIdle := min(slowAfter, s.opts.HandshakeTimeout)
		if hasRequested {
			minIdle = 10 * s.opts.HandshakeTimeout
		}
		if sameTenant && (idle < minIdle || c.account.working.Load() > 0 || len(c.reads) > 0) {
			continue
		}
		if best == nil || !hasRequested && best.hasRequested.Load() || hasRequested == best.hasRequested.Load() && c.lastUsed.Load() < best.lastUsed.Load() {
			best = c
		}
	}
	return best
}

// closeHolder closes the connection of owner that has the most sessions open.
func (s *Server) closeHolder(owner *tenant) {
	s.mu.Lock()
	var heaviest *conn
	for c := range s.conns {
		if c.tenant == owner && (heaviest == nil || c.sessionCount.Load() > heaviest.sessionCount.Load()) {
			heaviest = c
		}
	}
	s.mu.Unlock()
	if heaviest != nil {
		heaviest.evict()
	}
}

// oldestHandshake selects the tenant with the most connections in their handshake, and returns the
// oldest of these connections. mu must be held.
func (s *Server) oldestHandshake() *conn {
	counts := map[*tenant]int{}
	var heaviest *tenant
	for _, c := range s.handshaking {
		if counts[c.tenant]++; heaviest == nil || counts[c.tenant] > counts[heaviest] {
			heaviest = c.tenant
		}
	}
	return s.handshaking[slices.IndexFunc(s.handshaking, func(c *conn) bool { return c.tenant == heaviest })]
}

func (s *Server) removeHandshaking(c *conn) {
	s.handshaking = slices.DeleteFunc(s.handshaking, func(g *conn) bool { return g == c })
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(c)
}

func (s *Server) forgetLocked(c *conn) {
	s.removeHandshaking(c)
	if _, isOpen := s.conns[c]; isOpen {
		delete(s.conns, c)
		s.quotas.add(c.tenant, connections, -1)
		s.crowded.Store(len(s.conns) > turnThreshold)
	}
}
