package remote

import (
	"net"
	"slices"
)

// turnThreshold is the number of connections above which the connections of a tenant (a peer) take
// turns: see [tenant.takeTurn].
const turnThreshold = 32

// admit starts a connection. If MaxConnections are open, it evicts a connection of the tenant with
// the most connections. At most a quarter of MaxConnections may be in their handshake: beyond that,
// admit evicts the oldest handshake of a tenant.
func (s *Server) admit(nc net.Conn, o ServeOptions) {
	c := newConn(s, nc, s.lastID.Add(1))
	c.listener = o
	heaviest := s.budget.findHeaviest(connections, c.tenant, 1)
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
		s.opts.Logger.Warn("connection refused: too many connections are open, and all are in use", "peer", peerName(nc), "connections", n)
		c.discard()
		return
	}
	if victim != nil {
		s.removeConn(victim)
	}
	s.meters.acceptedConns.Add(1)
	s.conns[c] = struct{}{}
	s.budget.add(c.tenant, connections, 1)
	s.manyConns.Store(len(s.conns) > turnThreshold)
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
	c.release()
}

// evictOne closes a connection when the process has run out of file descriptors.
func (s *Server) evictOne() {
	heaviest := s.budget.findHeaviest(connections, new(tenant), 1)
	s.mu.Lock()
	victim := s.leastUseful(heaviest, false)
	if victim != nil {
		s.removeConn(victim)
	}
	s.mu.Unlock()
	if victim != nil {
		victim.evict()
	}
}

// leastUseful returns the connection of owner to evict, or nil. sameTenant means that the eviction
// makes room for another connection of owner. mu must be held.
func (s *Server) leastUseful(owner *tenant, sameTenant bool) *conn {
	var best *conn
	for c := range s.conns {
		if c.tenant != owner || sameTenant && !c.givesWay(s.opts.HandshakeTimeout) {
			continue
		}
		if best == nil || c.isLessUseful(&best.connUse) {
			best = c
		}
	}
	return best
}

// evictSessionHolder closes the connection of owner that has the most open sessions.
func (s *Server) evictSessionHolder(owner *tenant) {
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

// oldestHandshake returns the oldest connection in its handshake, among those of the tenant with the
// most such connections. mu must be held.
func (s *Server) oldestHandshake() *conn {
	counts := map[*tenant]int{}
	var heaviest *tenant
	for _, c := range s.handshaking {
		counts[c.tenant]++
		if heaviest == nil || counts[c.tenant] > counts[heaviest] {
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
	s.removeConn(c)
}

// removeConn removes a connection from s. mu must be held.
func (s *Server) removeConn(c *conn) {
	s.removeHandshaking(c)
	if _, isOpen := s.conns[c]; isOpen {
		delete(s.conns, c)
		s.budget.add(c.tenant, connections, -1)
		s.manyConns.Store(len(s.conns) > turnThreshold)
	}
}
