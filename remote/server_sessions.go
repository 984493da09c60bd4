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
	"github.com/go-partd/partd/internal/sessiontab"
)

// sessions applies numbered operations. The store does so itself where it can;
// for any other the server remembers what was applied, for its life. Only a
// connection that has begun a session, or shown its token, can use it.
type sessions struct {
	space  *space
	store  partd.Partd
	room   Room // that the store has, nil if nothing limits it
	quotas *quotas
	secret [16]byte // of the tokens of the server's own

	mu    *sync.Mutex         // one for those of all spaces; taken after that of a session
	table map[uint64]*session // that may be used
	own   bool                // the store cannot, so the server's table counts
	known bool                // whether own is known
	last  uint64              // the session that the server issued last

	unnumbered bool // take no notice of numbers: for a test that must then fail
}

// session is what the server knows of a session.
type session struct {
	id     uint64
	home   *sessions
	mine   bool // issued by the server
	tenant *tenant
	over   atomic.Bool // its client has ended it, perhaps over a newer connection

	// Guarded by the mu of sessions.
	conns int  // connections that have it open
	used  bool // something was applied
	begun time.Time
	place *list.Element // in one of the peer's lists, nil if it may not be forgotten
	in    *list.List

	// mu is held while an operation is applied, and taken before that of sessions:
	// those of a session are applied one after the other, and none of an older
	// connection once a newer one has come, where the client has given the older one
	// up.
	mu    sync.Mutex
	owner uint64 // the connection used last

	counted bool   // the session began here, or applied is of an operation that came here
	applied uint64 // the highest number of an operation that may have been applied

	last    sessiontab.Operation // applied last, of the server's own
	unknown error                // the outcome of last, if it is not known
}

func (s *sessions) init(p *space, l *quotas, mu *sync.Mutex, incarnation uint32) error {
	store := p.store
	s.space, s.store, s.quotas, s.mu = p, store, l, mu
	s.table = map[uint64]*session{}
	s.last = uint64(incarnation) << 32
	_, can := store.(partd.Applier)
	s.own, s.known = !can, !can
	_, err := rand.Read(s.secret[:])
	return err
}

// issue begins a session, and reports whether the store keeps it.
func (s *sessions) issue(ctx context.Context, c *conn) (x *session, token partd.SessionToken, err error) {
	if err := s.reserve(ctx, c); err != nil {
		return nil, token, err
	}
	x = &session{home: s, tenant: c.tenant, begun: time.Now(), counted: true}
	defer func() {
		if err != nil {
			s.quotas.add(c.tenant, knownSessions, -1)
		}
	}()
	if a, ok := s.store.(partd.Applier); ok && !s.isOwn() {
		x.id, err = a.NewSession(ctx)
		// The store may be another server, where all sessions are of one connection.
		for errors.Is(err, ErrBusy) {
			if ended, e := s.endOne(ctx, s.quotas.heaviest(knownSessions, c.tenant, 0)); !ended || e != nil {
				break
			}
			x.id, err = a.NewSession(ctx)
		}
		if err == nil {
			token, err = s.token(ctx, x.id)
		}
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return nil, token, err
		}
		x.mine = err != nil
	} else {
		x.mine = true
	}
	s.decide(x.mine)
	s.mu.Lock()
	if x.mine {
		s.last++
		x.id = s.last
	}
	s.table[x.id] = x
	s.open(c, x)
	s.mu.Unlock()
	if x.mine {
		token = partd.NewSessionToken(s.secret[:], x.id)
	}
	return x, tokenFor(c.access.who.User, token), nil
}

// token returns the token of a session of the store. One that has none of its own
// gets one for the server's life.
func (s *sessions) token(ctx context.Context, id uint64) (partd.SessionToken, error) {
	if g, ok := s.store.(partd.SessionGuard); ok {
		t, err := g.SessionToken(ctx, id)
		if !errors.Is(err, errors.ErrUnsupported) {
			return t, err
		}
	}
	return partd.NewSessionToken(s.secret[:], id), nil
}

// tokenFor binds the token of a session to its user: shown by another it is wrong.
func tokenFor(user string, token partd.SessionToken) partd.SessionToken {
	if user == "" {
		return token
	}
	h := hmac.New(sha256.New, token[:])
	h.Write([]byte(user))
	return partd.SessionToken(h.Sum(nil)[:16])
}

// check returns an error unless a token is that of a session of a user.
func (s *sessions) check(ctx context.Context, user string, id uint64, token partd.SessionToken) error {
	if user != "" {
		own := partd.NewSessionToken(s.secret[:], id)
		if !s.isOwn() {
			var err error
			if own, err = s.token(ctx, id); err != nil {
				return err
			}
		}
		return tokenFor(user, own).Check(id, token)
	}
	if g, ok := s.store.(partd.SessionGuard); ok && !s.isOwn() {
		if err := g.CheckSession(ctx, id, token); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return partd.NewSessionToken(s.secret[:], id).Check(id, token)
}

func (s *sessions) isOwn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known && s.own
}

// decide settles who keeps sessions. A layer may have the methods, and a store
// beneath that does not.
func (s *sessions) decide(own bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known {
		s.own, s.known = own, true
	}
}

// open notes that a connection may use a session. mu is held.
func (s *sessions) open(c *conn, x *session) {
	if c.used == nil {
		c.used = map[uint64]*session{}
	}
	c.used[x.id] = x
	c.sessions.Store(int64(len(c.used)))
	x.conns++
	s.place(x)
}

// enter lets a connection go on with a session whose token it shows.
func (s *sessions) enter(ctx context.Context, c *conn, id uint64, token partd.SessionToken) error {
	if id == 0 || c.used[id] != nil {
		return nil
	}
	if err := s.check(ctx, c.access.who.User, id, token); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.table[id]
	if x == nil {
		if s.known && s.own {
			return fmt.Errorf("session %d: %w", id, partd.ErrSessionExpired)
		}
		s.mu.Unlock()
		err := s.reserve(ctx, c)
		s.mu.Lock()
		if err != nil {
			return err
		}
		if x = s.table[id]; x != nil { // entered by another connection in between
			s.quotas.add(c.tenant, knownSessions, -1)
		} else {
			x = &session{id: id, home: s, tenant: c.tenant, begun: time.Now(), used: true}
			s.table[id] = x
		}
	}
	s.open(c, x)
	return nil
}

// end forgets a session that the connection has open.
func (s *sessions) end(ctx context.Context, c *conn, id uint64) error {
	x := c.used[id]
	if x == nil {
		return nil
	}
	x.over.Store(true)
	s.space.pops.end(id)
	s.forget(c, x)
	s.mu.Lock()
	s.remove(x)
	s.mu.Unlock()
	if a, ok := s.store.(partd.Applier); ok && !x.mine {
		return a.EndSession(ctx, id)
	}
	return nil
}

// close forgets all sessions, of which no connection has one open. A store that
// keeps them knows them on.
func (s *sessions) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.table {
		s.remove(x)
	}
}

// leave notes that a connection has ended.
func (s *sessions) leave(c *conn) {
	for _, x := range c.used {
		s.forget(c, x)
	}
}

// forget notes that a connection does not use a session any more.
func (s *sessions) forget(c *conn, x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(c.used, x.id)
	c.sessions.Store(int64(len(c.used)))
	x.conns--
	s.place(x)
}

var errGivenUp = errors.New("the session goes on over a newer connection")
