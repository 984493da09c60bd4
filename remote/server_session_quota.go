package remote

import (
	"container/list"
	"context"
	"fmt"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
)

// reserve counts one more session in the quotas. If there are maxSessions already, it ends a
// forgettable session of the tenant with the most sessions. If that tenant has no forgettable session,
// reserve closes one of its connections, unless c has the same tenant.
func (s *sessions) reserve(ctx context.Context, c *connSessions) error {
	if len(c.open) >= maxConnSessions {
		return fmt.Errorf("%w: more than %d sessions on one connection", ErrBusy, maxConnSessions)
	}
	for begin := time.Now(); !s.quotas.tryAdd(c.peer.tenant, knownSessions, 1); {
		heaviest := s.quotas.findHeaviest(knownSessions, c.peer.tenant, 1)
		if ended, err := s.endForgettable(ctx, heaviest); err != nil {
			return err
		} else if ended {
			c.peer.meters.evictedSessions.Add(1)
			continue
		}
		if heaviest == c.peer.tenant || time.Since(begin) > time.Second {
			return fmt.Errorf("%w: all %d sessions belong to open connections", ErrBusy, maxSessions)
		}
		c.evictSessionHolder(heaviest)
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
	x.home.pops.end(x.id)
	keeper := x.home.currentKeeper()
	if x.home == s {
		return true, keeper.EndSession(ctx, x.id)
	}
	// The session belongs to another store, which may be busy or broken and must not block the new
	// session. Ignore its error, because a store with too many sessions forgets the oldest itself.
	ctx, cancel := context.WithTimeout(ctx, slowAfter)
	defer cancel()
	_ = keeper.EndSession(ctx, x.id)
	return true, nil
}

// forgetOne forgets a session of owner and returns it. It returns nil if none can be forgotten.
func (s *sessions) forgetOne(owner *tenant) *knownSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := owner.sessions.oldest()
	if x != nil {
		x.home.remove(x)
	}
	return x
}

// remove forgets a session. mu must be held.
func (s *sessions) remove(x *knownSession) {
	if s.table[x.id] == x {
		delete(s.table, x.id)
		s.moveToList(x, nil)
		s.quotas.add(x.tenant, knownSessions, -1)
	}
}

// moveToList moves a session to the end of dest or, if dest is nil, only removes it from its list. mu
// must be held.
func (s *sessions) moveToList(x *knownSession, dest *list.List) {
	if x.list != nil {
		x.list.Remove(x.place)
	}
	x.list = dest
	if dest != nil {
		x.place = dest.PushBack(x)
	}
}

// placeInList moves a session to the list for its state. mu must be held.
func (s *sessions) placeInList(x *knownSession) {
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
