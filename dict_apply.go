package partd

import (
	"container/list"
	"context"
	"sync"
)

var _ Applier = (*Dict)(nil)

// dictSessions are the sessions of a Dict. They live as long as it does.
type dictSessions struct {
	mu     sync.Mutex
	issued uint64
	known  map[uint64]*list.Element // of *dictSession
	order  list.List                // the oldest first
}

// dictSession is one of them. Its lock is held while an operation of the session
// is applied, so that the same one, sent again meanwhile, waits for its end.
type dictSession struct {
	id    uint64
	mu    sync.Mutex // taken before the gate of the Dict, never with the lock of dictSessions
	ended bool
	last  lastOperation
}

// NewSession issues a session. It lasts as long as the store; of more than 8,192
// the oldest is forgotten.
func (d *Dict) NewSession(ctx context.Context) (uint64, error) {
	if err := d.enter(ctx, "new session"); err != nil {
		return 0, err
	}
	defer d.leave()
	t := &d.sessions
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		t.known = make(map[uint64]*list.Element)
		t.issued = newIncarnation()
	}
	t.issued++
	t.known[t.issued] = t.order.PushBack(&dictSession{id: t.issued})
	if t.order.Len() > maxSessions {
		t.forget(t.order.Front())
	}
	return t.issued, nil
}

func (t *dictSessions) forget(e *list.Element) *dictSession {
	s := t.order.Remove(e).(*dictSession)
	delete(t.known, s.id)
	return s
}

// find returns a session, or nil.
func (t *dictSessions) find(session uint64) *dictSession {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.known[session]; e != nil {
		return e.Value.(*dictSession)
	}
	return nil
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
	e := t.known[session]
	if e == nil {
		t.mu.Unlock()
		return nil
	}
	s := t.forget(e)
	t.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return nil
}

// Apply applies an operation together with its tag, as one step.
func (d *Dict) Apply(ctx context.Context, tag Tag, op Operation) (applied bool, err error) {
	if err := checkOperation(tag, op); err != nil {
		return false, err
	}
	if err := d.enter(ctx, "apply"); err != nil {
		return false, err
	}
	d.leave()
	s := d.sessions.find(tag.Session)
	if s == nil {
		return false, &Error{Op: "apply", Err: expired(tag.Session)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false, &Error{Op: "apply", Err: expired(tag.Session)}
	}
	if isNext, err := s.last.isNext(tag); err != nil {
		return false, &Error{Op: "apply", Err: err}
	} else if !isNext {
		return false, nil
	}
	if err := d.apply(ctx, op); err != nil {
		return false, err
	}
	s.last = lastOperation{tag.Number, tag.CRC}
	return true, nil
}

// apply applies an operation that was checked.
func (d *Dict) apply(ctx context.Context, op Operation) error {
	switch op.Change {
	case ChangeAppend:
		return d.Append(ctx, op.Entries...)
	case ChangeSet:
		return d.Set(ctx, op.Entries[0].Key, op.Entries[0].Value)
	case ChangeSetOnce:
		return d.SetOnce(ctx, op.Entries[0].Key, op.Entries[0].Value)
	case ChangeDelete:
		return d.Delete(ctx, op.Keys...)
	default:
		return d.Drop(ctx)
	}
}
