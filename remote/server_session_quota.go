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
	ks := s.forgetOne(owner)
	if ks == nil {
		return false, nil
	}
	ks.home.pops.end(ks.id)
	keeper := ks.home.currentKeeper()
	if ks.home == s {
		return true, keeper.EndSession(ctx, ks.id)
	}
	// The session belongs to another store, which may be busy or broken and must not block the new
	// session. Ignore its error, because a store with too many sessions forgets the oldest itself.
	ctx, cancel := context.WithTimeout(ctx, slowAfter)
	defer cancel()
	_ = keeper.EndSession(ctx, ks.id)
	return true, nil
}

// forgetOne forgets a session of owner and returns it. It returns nil if none can be forgotten.
func (s *sessions) forgetOne(owner *tenant) *knownSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	ks := owner.sessions.oldest()
	if ks != nil {
		ks.home.remove(ks)
	}
	return ks
}

// remove forgets a session. mu must be held.
func (s *sessions) remove(ks *knownSession) {
	if s.table[ks.id] == ks {
		delete(s.table, ks.id)
		s.moveToList(ks, nil)
		s.quotas.add(ks.tenant, knownSessions, -1)
	}
}

// moveToList moves a session to the end of dest or, if dest is nil, only removes it from its list. mu
// must be held.
func (s *sessions) moveToList(ks *knownSession, dest *list.List) {
	if ks.list != nil {
		ks.list.Remove(ks.place)
	}
	ks.list = dest
	if dest != nil {
		ks.place = dest.PushBack(ks)
	}
}

// placeInList moves a session to the list for its state. mu must be held.
func (s *sessions) placeInList(ks *knownSession) {
	f := &ks.tenant.sessions
	switch {
	case s.table[ks.id] != ks:
	case ks.conns == 0 && ks.used:
		s.moveToList(ks, &f.closedUsed)
	case ks.conns == 0:
		s.moveToList(ks, &f.unused)
	case !ks.used:
		s.moveToList(ks, &f.openUnused)
	default:
		s.moveToList(ks, nil)
	}
}
