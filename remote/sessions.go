package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-partd/partd"
)

// sessions applies numbered operations. The store does so itself where it can;
// for any other the server remembers what was applied, for its life.
type sessions struct {
	store partd.Partd

	mu      sync.Mutex
	open    map[uint64]*session // in use on some connection, or the server's own
	own     bool                // the store cannot, so the server's table counts
	known   bool                // whether own is known
	last    uint64              // the session that the server issued last
	lastUse uint64              // counts uses, to find the oldest

	unnumbered bool // take no notice of numbers: for a test that must then fail
}

// session is what the server knows of a session.
type session struct {
	id    uint64
	conns int    // connections that have used it
	use   uint64 // when it was used last
	mine  bool   // issued by the server

	// mu is held while an operation is applied: those of a session are applied
	// one after the other, and none of an older connection once a newer one has
	// come, where the client has given the older one up.
	mu    sync.Mutex
	owner uint64 // the connection used last

	high    uint64 // the operation applied last, of the server's own
	crc     uint32
	unknown error // the outcome of high, if it is not known
}

// Bounds of what is remembered.
const (
	mostSessions     = 4096 // of the server's own
	mostConnSessions = 1024 // that one connection may use
)

func (s *sessions) init(store partd.Partd, incarnation uint32) {
	s.store = store
	s.open = map[uint64]*session{}
	s.last = uint64(incarnation) << 32
	_, can := store.(partd.Applier)
	s.own, s.known = !can, !can
}

// issue begins a session, and tells whether the store keeps it.
func (s *sessions) issue(ctx context.Context) (id uint64, kept bool, err error) {
	if a, ok := s.store.(partd.Applier); ok && !s.isOwn() {
		id, err := a.NewSession(ctx)
		if !errors.Is(err, errors.ErrUnsupported) {
			s.decide(false)
			return id, true, err
		}
	}
	s.decide(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.makeRoom()
	s.lastUse++
	s.open[s.last] = &session{id: s.last, mine: true, use: s.lastUse}
	return s.last, false, nil
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

// makeRoom forgets the oldest of the server's own sessions, those without a
// connection first. mu is held.
func (s *sessions) makeRoom() {
	for {
		n := 0
		var oldest *session
		for _, x := range s.open {
			if !x.mine {
				continue
			}
			n++
			if oldest == nil || x.conns == 0 && oldest.conns > 0 || (x.conns == 0) == (oldest.conns == 0) && x.use < oldest.use {
				oldest = x
			}
		}
		if n < mostSessions {
			return
		}
		delete(s.open, oldest.id)
	}
}

// end forgets a session, which the connection no longer uses.
func (s *sessions) end(ctx context.Context, c *conn, id uint64) error {
	if x := c.used[id]; x != nil {
		s.forget(c, x)
	}
	if !s.isOwn() {
		if a, ok := s.store.(partd.Applier); ok {
			return a.EndSession(ctx, id)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, id)
	return nil
}

// join notes that a connection uses a session.
func (s *sessions) join(c *conn, id uint64) (*session, error) {
	if x := c.used[id]; x != nil {
		return x, nil
	}
	if len(c.used) >= mostConnSessions {
		return nil, fmt.Errorf("%w: more than %d sessions on one connection", ErrBusy, mostConnSessions)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.open[id]
	if !ok {
		if s.known && s.own {
			return nil, fmt.Errorf("session %d: %w", id, partd.ErrSessionExpired)
		}
		x = &session{id: id}
		s.open[id] = x
	}
	x.conns++
	s.lastUse++
	x.use = s.lastUse
	if c.used == nil {
		c.used = map[uint64]*session{}
	}
	c.used[id] = x
	return x, nil
}

// leave notes that a connection has ended.
func (s *sessions) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range c.used {
		s.drop(x)
	}
	c.used = nil
}

// forget notes that a connection does not use a session after all.
func (s *sessions) forget(c *conn, x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(c.used, x.id)
	s.drop(x)
}

// drop notes that one connection less uses a session. mu is held.
func (s *sessions) drop(x *session) {
	x.conns--
	if x.conns == 0 && !x.mine && s.open[x.id] == x {
		delete(s.open, x.id)
	}
}

var errGivenUp = errors.New("the session goes on over a newer connection")

// apply applies an operation of a session once. An error that wraps errGivenUp
// must end the connection: nobody waits for its answer.
func (s *sessions) apply(ctx context.Context, c *conn, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	if tag.Number == 0 {
		return false, fmt.Errorf("%w: operations of a session are numbered from 1", ErrBadRequest)
	}
	x, err := s.join(c, tag.Session)
	if err != nil {
		return false, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.owner > c.id {
		return false, errGivenUp
	}
	x.owner = c.id
	if s.unnumbered {
		return true, change(ctx, s.store, op)
	}
	if x.mine {
		return x.apply(ctx, s, tag, op)
	}
	a, ok := s.store.(partd.Applier)
	if !ok {
		return false, fmt.Errorf("session %d: %w", tag.Session, partd.ErrSessionExpired)
	}
	applied, err = a.Apply(ctx, tag, op)
	if errors.Is(err, partd.ErrSessionExpired) {
		s.forget(c, x) // or made-up numbers would be remembered
	}
	return applied, err
}

// apply is for sessions that the server issued. mu is held.
func (x *session) apply(ctx context.Context, s *sessions, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	s.mu.Lock()
	forgotten := s.open[x.id] != x
	s.lastUse++
	x.use = s.lastUse
	s.mu.Unlock()
	switch {
	case forgotten:
		return false, fmt.Errorf("session %d: %w", tag.Session, partd.ErrSessionExpired)
	case tag.Number > x.high && x.unknown != nil:
		// Applied behind it, this would turn its unknown outcome into a known one.
		return false, fmt.Errorf("session %d: operation %d came after %d, whose outcome is unknown: %w", tag.Session, tag.Number, x.high, partd.ErrSessionGap)
	case tag.Number > x.high+1:
		return false, fmt.Errorf("session %d: operation %d came after %d: %w", tag.Session, tag.Number, x.high, partd.ErrSessionGap)
	case tag.Number == x.high && tag.CRC != x.crc:
		return false, fmt.Errorf("session %d, operation %d: %w", tag.Session, tag.Number, partd.ErrSessionReused)
	case tag.Number == x.high:
		return false, x.unknown
	case tag.Number < x.high:
		return false, nil
	}
	err = change(ctx, s.store, op)
	if err == nil || errors.Is(err, partd.ErrUnknownOutcome) {
		x.high, x.crc, x.unknown = tag.Number, tag.CRC, err
	}
	return err == nil, err
}

// change makes a change without a number.
func change(ctx context.Context, store partd.Partd, op partd.Operation) error {
	switch op.Change {
	case partd.ChangeAppend:
		return store.Append(ctx, op.Entries...)
	case partd.ChangeSet:
		return partd.Set(ctx, store, op.Entries[0].Key, op.Entries[0].Value)
	case partd.ChangeSetOnce:
		return partd.SetOnce(ctx, store, op.Entries[0].Key, op.Entries[0].Value)
	case partd.ChangeDelete:
		return partd.Delete(ctx, store, op.Keys...)
	case partd.ChangeDrop:
		return store.Drop(ctx)
	}
	return fmt.Errorf("%w: change %d", ErrBadRequest, op.Change)
}
