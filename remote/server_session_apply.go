package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/sessiontab"
)

// apply applies an operation in a session exactly once. If the error wraps errSuperseded, the
// client has abandoned this connection, and the caller must close it.
func (s *sessions) apply(ctx context.Context, c *connSessions, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	if tag.Number == 0 {
		return false, fmt.Errorf("%w: operations of a session are numbered from 1", ErrBadRequest)
	}
	ks := c.open[tag.Session]
	if ks == nil {
		return false, sessiontab.ExpiredError(tag.Session)
	}
	s.use(ks)
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if ks.owner > c.peer.id {
		return false, errSuperseded
	}
	ks.owner = c.peer.id
	do := func() (bool, error) { return ks.applyTo(ctx, s, c, tag, op) }
	// An operation may already have been applied if it is resent, or if its session began on another
	// server and has not applied anything here. Do not check the limit for such an operation, because
	// an operation that was applied must not be rejected.
	if !ks.appliedKnown || tag.Number <= ks.applied {
		applied, err = do()
	} else {
		applied, err = withinLimit(s.limit, op, do)
	}
	if err == nil || errors.Is(err, partd.ErrUnknownOutcome) {
		ks.appliedKnown, ks.applied = true, max(ks.applied, tag.Number)
	}
	return applied, err
}

// applyTo applies an operation exactly once. The keeper (the store or the server's memory) knows which
// operations were already applied. ks.mu must be held.
func (ks *knownSession) applyTo(ctx context.Context, s *sessions, c *connSessions, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	applied, err = s.currentKeeper().Apply(ctx, tag, op)
	if errors.Is(err, partd.ErrSessionExpired) {
		s.forget(c, ks)
	}
	return applied, err
}

// use marks a session as used, so that unused sessions are forgotten before it.
func (s *sessions) use(ks *knownSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ks.used {
		ks.used = true
		s.placeInList(ks)
	}
}

// memorySessions remembers in memory which operations were applied, for a store that cannot
// remember them itself.
type memorySessions struct {
	store partd.Partd

	mu         sync.Mutex // while it is held, no other mutex is locked
	lastIssued uint64     // number of the last session
	table      map[uint64]*memorySession
}

// memorySession is guarded by knownSession.mu.
type memorySession struct {
	last      sessiontab.Operation // last operation applied
	uncertain error                // error of last if its outcome is unknown
}

func (m *memorySessions) NewSession(context.Context) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastIssued++
	m.table[m.lastIssued] = &memorySession{}
	return m.lastIssued, nil
}

func (m *memorySessions) EndSession(_ context.Context, session uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.table, session)
	return nil
}

// Apply implements [partd.Applier]. Only one operation in a session may be in progress at a time.
func (m *memorySessions) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	m.mu.Lock()
	ms := m.table[tag.Session]
	m.mu.Unlock()
	switch {
	case ms == nil:
		return false, sessiontab.ExpiredError(tag.Session)
	case tag.Number > ms.last.Number && ms.uncertain != nil:
		// Reject this operation: from its success, the client would conclude that the operation before
		// it, whose outcome is unknown, was applied.
		return false, fmt.Errorf("session %d: operation %d came after %d, whose outcome is unknown: %w", tag.Session, tag.Number, ms.last.Number, partd.ErrSessionGap)
	}
	next := sessiontab.Operation{Number: tag.Number, CRC: tag.CRC}
	if isNext, err := ms.last.IsNext(tag.Session, next); err != nil {
		return false, err
	} else if !isNext && next == ms.last {
		return false, ms.uncertain
	} else if !isNext {
		return false, nil
	}
	err = op.Do(ctx, m.store)
	if err == nil || errors.Is(err, partd.ErrUnknownOutcome) {
		ms.last, ms.uncertain = next, err
	}
	return err == nil, err
}
