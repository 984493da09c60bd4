package partd

import (
	"context"
	"sync"

	"github.com/go-partd/partd/internal/sessiontab"
)

// dictSessions are the sessions of a Dict. They live as long as it does.
type dictSessions struct {
	mu     sync.Mutex // no other lock is taken under it
	issued uint64
	secret []byte // of the tokens
	known  sessiontab.Table[*dictSession]
}

// dictSession is one of them. Its lock is held while an operation of the session
// is applied, so that the same one, sent again meanwhile, waits for its end.
type dictSession struct {
	mu    sync.Mutex // taken before the gate of the Dict, never with the lock of dictSessions
	ended bool
	last  sessiontab.Operation
}

// NewSession issues a session. It lasts as long as the store; of more than 8,192
// one that was not used is forgotten, or the one used longest ago.
func (d *Dict) NewSession(ctx context.Context) (uint64, error) {
	if err := d.enter(ctx, "new session"); err != nil {
		return 0, err
	}
	defer d.leave()
	t := &d.sessions
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begin()
	t.issued++
	if t.known.Len() >= sessiontab.MaxSessions {
		t.known.Remove(t.known.Oldest(sessiontab.MaxSessions))
	}
	t.known.Add(t.issued, new(dictSession))
	return t.issued, nil
}

// begin makes the table, at the first session. mu is held.
func (t *dictSessions) begin() {
	if t.secret == nil {
		t.issued, t.secret = sessiontab.NewIncarnation(), sessiontab.NewSecret()
	}
}

// SessionToken returns the token of a session.
func (d *Dict) SessionToken(_ context.Context, session uint64) (SessionToken, error) {
	t := &d.sessions
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begin()
	return NewSessionToken(t.secret, session), nil
}

// CheckSession returns an error unless a token is that of the session.
func (d *Dict) CheckSession(ctx context.Context, session uint64, token SessionToken) error {
	want, err := d.SessionToken(ctx, session)
	if err != nil {
		return err
	}
	return want.Check(session, token)
}

// EndSession forgets a session; one that is not known is no error. An operation
// of it that is being applied is waited for.
func (d *Dict) EndSession(ctx context.Context, session uint64) error {
	if err := d.enter(ctx, "end session"); err != nil {
		return err
	}
	d.leave()
	t := &d.sessions
	t.mu.Lock()
	s, ok := t.known.Get(session)
	t.known.Remove(session)
	t.mu.Unlock()
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return nil
}

// Apply applies an operation together with its tag, as one step.
func (d *Dict) Apply(ctx context.Context, tag Tag, op Operation) (applied bool, err error) {
	if err := CheckOperation(tag, op); err != nil {
		return false, err
	}
	if err := d.enter(ctx, "apply"); err != nil {
		return false, err
	}
	d.leave()
	t := &d.sessions
	t.mu.Lock()
	s, ok := t.known.Get(tag.Session)
	if ok {
		t.known.Use(tag.Session, s)
	}
	t.mu.Unlock()
	if !ok {
		return false, d.fail("apply", sessiontab.Expired(tag.Session))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false, d.fail("apply", sessiontab.Expired(tag.Session))
	}
	next := sessiontab.Operation{Number: tag.Number, CRC: tag.CRC}
	if isNext, err := s.last.IsNext(tag.Session, next); err != nil {
		return false, d.fail("apply", err)
	} else if !isNext {
		return false, nil
	}
	if err := op.Do(ctx, d); err != nil {
		return false, err
	}
	s.last = next
	return true, nil
}
