package remote

import (
	"container/list"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// sessions applies the numbered operations of a store's sessions exactly once. A connection can use
// only sessions that it has begun or whose token it has presented.
type sessions struct {
	pops   *retainedPops // results of pops from the same store
	store  partd.Partd
	limit  SpaceLimit // nil if nothing limits the store
	quotas *quotas
	secret [16]byte // key from which the server derives the tokens that it issues

	mu     *sync.Mutex              // shared by all spaces; locked after knownSession.mu
	table  map[uint64]*knownSession // known sessions, by number
	keeper partd.Applier            // remembers which operations were applied: store or, if it is no Applier, &memory
	memory memorySessions
}

// knownSession is the server's record of a session.
type knownSession struct {
	id     uint64
	home   *sessions // the store's sessions, to which this one belongs
	tenant *tenant
	ended  atomic.Bool // the client has ended the session, perhaps over another connection

	// These fields are guarded by sessions.mu.
	conns int  // number of connections that have the session open
	used  bool // an operation or a pop may have used the session
	begun time.Time
	place *list.Element // element of list
	list  *list.List    // the tenant's list of sessions to evict that contains this one; nil if it must be kept

	// mu is held while an operation is applied. It is locked before sessions.mu.
	mu sync.Mutex
	// owner is the id of the newest connection that has used the session. Operations from older
	// connections are rejected, because the client has abandoned those connections.
	owner uint64

	appliedKnown bool   // applied is valid, because the session began or has applied an operation in this process
	applied      uint64 // highest operation number that may have been applied
}

// connSessions holds the sessions that a connection may use. Only the conn's goroutine uses it.
type connSessions struct {
	peer               *transport
	open               map[uint64]*knownSession // by number
	evictSessionHolder func(owner *tenant)      // closes the connection with the most open sessions among those of owner
}

// init initializes the sessions of a space. Sessions in memory are numbered from incarnation<<32.
// incarnation differs between server processes, so that a new process does not reuse numbers.
func (s *sessions) init(store partd.Partd, pops *retainedPops, limit SpaceLimit, q *quotas, mu *sync.Mutex, incarnation uint32) {
	s.store, s.pops, s.limit, s.quotas, s.mu = store, pops, limit, q, mu
	s.table = map[uint64]*knownSession{}
	s.memory = memorySessions{store: store, lastIssued: uint64(incarnation) << 32, table: map[uint64]*memorySession{}}
	var canKeep bool
	s.keeper, canKeep = store.(partd.Applier)
	if !canKeep {
		s.keeper = &s.memory
	}
	_, _ = rand.Read(s.secret[:]) // never returns an error
}

// issue begins a session and returns it with its token.
func (s *sessions) issue(ctx context.Context, c *connSessions, user string) (ks *knownSession, token partd.SessionToken, err error) {
	if err := s.reserve(ctx, c); err != nil {
		return nil, token, err
	}
	ks = &knownSession{home: s, tenant: c.peer.tenant, begun: time.Now(), appliedKnown: true}
	defer func() {
		if err != nil {
			s.quotas.add(c.peer.tenant, knownSessions, -1)
		}
	}()
	keeper := s.currentKeeper()
	ks.id, err = keeper.NewSession(ctx)

	// If the store is a Client, its server counts all sessions against that client's connection and
	// returns ErrBusy if there are too many. Then end a session and retry.
	for errors.Is(err, ErrBusy) {
		if ended, e := s.endForgettable(ctx, s.quotas.findHeaviest(knownSessions, c.peer.tenant, 0)); !ended || e != nil {
			break
		}
		ks.id, err = keeper.NewSession(ctx)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		// A store that wraps another one has the methods of partd.Applier even if the wrapped store
		// does not.
		s.mu.Lock()
		if len(s.table) == 0 { // otherwise the store keeps sessions, so the error has another reason
			s.keeper = &s.memory
		}
		keeper = s.keeper
		s.mu.Unlock()
		if keeper == partd.Applier(&s.memory) {
			ks.id, err = keeper.NewSession(ctx)
		}
	}
	if err == nil {
		token, err = s.token(ctx, ks.id)
	}
	if err != nil {
		return nil, token, err
	}
	s.mu.Lock()
	s.table[ks.id] = ks
	s.open(c, ks)
	s.mu.Unlock()
	return ks, tokenFor(user, token), nil
}

// token returns a session's token from the store or, if the store issues no tokens, a token
// that is valid until the server stops.
func (s *sessions) token(ctx context.Context, id uint64) (partd.SessionToken, error) {
	if g, ok := s.guard(); ok {
		t, err := g.SessionToken(ctx, id)
		if !errors.Is(err, errors.ErrUnsupported) {
			return t, err
		}
	}
	return storekit.NewSessionToken(s.secret[:], id), nil
}

// tokenFor derives a token that is valid only for user.
func tokenFor(user string, token partd.SessionToken) partd.SessionToken {
	if user == "" {
		return token
	}
	h := hmac.New(sha256.New, token[:])
	h.Write([]byte(user))
	return partd.SessionToken(h.Sum(nil)[:16])
}

// check returns an error unless token belongs to this session and user.
func (s *sessions) checkToken(ctx context.Context, user string, id uint64, token partd.SessionToken) error {
	if user != "" {
		issued, err := s.token(ctx, id)
		if err != nil {
			return err
		}
		return tokenFor(user, issued).Check(id, token)
	}
	if g, ok := s.guard(); ok {
		if err := g.CheckSession(ctx, id, token); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return storekit.NewSessionToken(s.secret[:], id).Check(id, token)
}

// guard returns the store as a SessionGuard, unless the server keeps the sessions in memory.
func (s *sessions) guard() (partd.SessionGuard, bool) {
	if s.currentKeeper() == partd.Applier(&s.memory) {
		return nil, false
	}
	g, ok := s.store.(partd.SessionGuard)
	return g, ok
}

func (s *sessions) currentKeeper() partd.Applier {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keeper
}

// open records that a connection may use a session. mu must be held.
func (s *sessions) open(c *connSessions, ks *knownSession) {
	if c.open == nil {
		c.open = map[uint64]*knownSession{}
	}
	c.open[ks.id] = ks
	c.peer.sessionCount.Store(int64(len(c.open)))
	ks.conns++
	s.placeInList(ks)
}

// authorize lets a connection use a session after checking the token that the connection sent.
func (s *sessions) authorize(ctx context.Context, c *connSessions, user string, id uint64, token partd.SessionToken) error {
	if id == 0 || c.open[id] != nil {
		return nil
	}
	if err := s.checkToken(ctx, user, id, token); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ks := s.table[id]
	if ks == nil {
		if s.keeper == &s.memory {
			return fmt.Errorf("session %d: %w", id, partd.ErrSessionExpired)
		}
		s.mu.Unlock()
		err := s.reserve(ctx, c)
		s.mu.Lock()
		if err != nil {
			return err
		}
		ks = s.table[id]
		if ks != nil { // another connection has opened the session in the meantime
			s.quotas.add(c.peer.tenant, knownSessions, -1)
		} else {
			ks = &knownSession{id: id, home: s, tenant: c.peer.tenant, begun: time.Now(), used: true}
			s.table[id] = ks
		}
	}
	s.open(c, ks)
	return nil
}

// end forgets a session that is open on the connection.
func (s *sessions) end(ctx context.Context, c *connSessions, id uint64) error {
	ks := c.open[id]
	if ks == nil {
		return nil
	}
	ks.ended.Store(true)
	s.pops.end(id)
	s.forget(c, ks)
	s.mu.Lock()
	s.remove(ks)
	s.mu.Unlock()
	return s.currentKeeper().EndSession(ctx, id)
}

// close forgets all sessions, but does not end sessions that the store keeps. No connection may
// have a session open.
func (s *sessions) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ks := range s.table {
		s.remove(ks)
	}
}

func (s *sessions) forgetAll(c *connSessions) {
	for _, ks := range c.open {
		s.forget(c, ks)
	}
}

// forget records that a connection no longer uses a session.
func (s *sessions) forget(c *connSessions, ks *knownSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(c.open, ks.id)
	c.peer.sessionCount.Store(int64(len(c.open)))
	ks.conns--
	s.placeInList(ks)
}
