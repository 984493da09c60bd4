package remote

import (
	"container/list"
	"context"
	"fmt"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
)

const (
	maxSessions     = 4096 // sessions that the server remembers
	maxConnSessions = 1024 // open sessions of one connection
)

// forgettable lists the sessions of a tenant that the server may forget, oldest first. The
// server takes a session from the first of these lists that is not empty.
type forgettable struct {
	unused     list.List // never used, and not open on any connection
	openUnused list.List // never used, but open on a connection
	closedUsed list.List // used, and not open on any connection
}

// reserve counts one more session in the quotas. At maxSessions, it ends a forgettable session of
// the tenant with the most sessions. If that tenant has no forgettable session, reserve closes one
// of its connections, unless c has the same tenant.
func (s *sessions) reserve(ctx context.Context, c *conn) error {
	if len(c.openSessions) >= maxConnSessions {
		return fmt.Errorf("%w: more than %d sessions on one connection", ErrBusy, maxConnSessions)
	}
	for begin := time.Now(); !s.quotas.tryAdd(c.tenant, knownSessions, 1); {
		heaviest := s.quotas.heaviest(knownSessions, c.tenant, 1)
		if ended, err := s.endForgettable(ctx, heaviest); err != nil {
			return err
		} else if ended {
			c.server.meters.evictedSessions.Add(1)
			continue
		}
		if heaviest == c.tenant || time.Since(begin) > time.Second {
			return fmt.Errorf("%w: all %d sessions belong to open connections", ErrBusy, maxSessions)
		}
		c.server.closeHolder(heaviest)
		if err := canceled.Wait(ctx, time.After(handlePoll)); err != nil {
			return err
		}
	}
	return nil
}

func (s *sessions) endForgettable(ctx context.Context, owner *tenant) (ended bool, err error) {
	x := s.forgetOne(owner)
	if x == nil {
		return false, nil
	}
	x.home.space.pops.end(x.id)
	keeper := x.home.currentKeeper()
	if x.home == s {
		return true, keeper.EndSession(ctx, x.id)
	}
	// The session belongs to another store, which may be busy or broken and must not block the
	// new session. Ignore its error: the other store forgets the session itself when it has too
	// many sessions.
	ctx, cancel := context.WithTimeout(ctx, slowAfter)
	defer cancel()
	_ = keeper.EndSession(ctx, x.id)
	return true, nil
}

// forgetOne forgets a session of owner and returns it, or returns nil. It prefers sessions that
// were never used, then the session that was closed longest ago.
func (s *sessions) forgetOne(owner *tenant) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &owner.sessions
	for _, l := range []*list.List{&f.unused, &f.openUnused, &f.closedUsed} {
		if first := l.Front(); first != nil {
			x := first.Value.(*session)
			if l == &f.openUnused && time.Since(x.begun) < slowAfter {
				continue
			}
			x.home.remove(x)
			return x
		}
	}
	return nil
}

// remove forgets a session. mu must be held.
func (s *sessions) remove(x *session) {
	if s.table[x.id] == x {
		delete(s.table, x.id)
		s.moveToList(x, nil)
		s.quotas.add(x.tenant, knownSessions, -1)
	}
}

// moveToList moves a session to the end of dest or, if dest is nil, removes it from its list. mu must
// be held.
func (s *sessions) moveToList(x *session, dest *list.List) {
	if x.list != nil {
		x.list.Remove(x.place)
	}
	if x.list = dest; dest != nil {
		x.place = dest.PushBack(x)
	}
}

// placeInList moves a session to the list for its state. mu must be held.
func (s *sessions) placeInList(x *session) {
	f := &x.tenant.sessions
	switch {
	case s.table[x.id] != x:
	case x.conns == 0 && x.used:
		s.moveToList(x, &f.closedUsed)
	case x.conns == 0:
		s.moveToList(x, &f.unused)
	case !x.used:
		s.moveToList(x, &f.openUnused)
	default:
		s.moveToList(x, nil)
	}
}
