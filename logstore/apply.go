package logstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// Change is what an operation of a session does.
type Change uint8

// The changes that Apply makes.
const (
	ChangeAppend  Change = iota // append Entries
	ChangeSet                   // set the one entry
	ChangeSetOnce               // set the one entry unless its key exists
	ChangeDelete                // delete Keys
	ChangeDrop                  // drop everything
)

// Operation is a change with all that it takes.
type Operation struct {
	Change  Change
	Entries []partd.Entry
	Keys    []string
}

// Applier is a store that applies numbered operations exactly once, however
// often they are sent and whatever crashes in between.
type Applier interface {
	// NewSession issues a session. Its operations are numbered from 1.
	NewSession(ctx context.Context) (session uint64, err error)
	// EndSession forgets a session.
	EndSession(ctx context.Context, session uint64) error
	// Apply applies an operation together with its tag, as one step. It returns
	// false, and changes nothing, where the tag says that it was applied before.
	// Its error wraps ErrSessionExpired, ErrSessionGap or ErrSessionReused where
	// the tag is wrong; nothing was applied then.
	Apply(ctx context.Context, tag Tag, op Operation) (applied bool, err error)
}

var _ Applier = (*Store)(nil)

// NewSession issues a session. It survives what an append survives.
func (s *Store) NewSession(ctx context.Context) (uint64, error) {
	var session uint64
	err := s.sessionRecord(ctx, "new session", func() recordHeader {
		session = s.sessions.issued + 1
		return recordHeader{kind: recordSession, tagged: true, tag: Tag{Session: session}}
	})
	return session, err
}

// EndSession forgets a session.
func (s *Store) EndSession(ctx context.Context, session uint64) error {
	return s.sessionRecord(ctx, "end session", func() recordHeader {
		return recordHeader{kind: recordEndSession, tagged: true, tag: Tag{Session: session}}
	})
}

// sessionRecord writes a record without entries. header is called with mu held.
func (s *Store) sessionRecord(ctx context.Context, opName string, header func() recordHeader) error {
	if ctx.Err() != nil {
		return s.errorf(opName, context.Cause(ctx))
	}
	s.life.RLock()
	defer s.life.RUnlock()
	s.mu.Lock()
	if err := s.writable(); err != nil {
		s.mu.Unlock()
		return s.errorf(opName, err)
	}
	s.mu.Unlock()
	b, err := s.takeBatch(ctx)
	if err != nil {
		return s.errorf(opName, err)
	}
	defer s.putBatch(b)
	b.checksum()
	s.mu.Lock()
	seq := s.seq
	if err = s.writable(); err == nil {
		err = s.writeBatch(b, header())
	}
	s.mu.Unlock()
	if err == nil && s.opts.Sync {
		err = s.syncTo(seq)
	}
	return s.errorf(opName, err)
}

// Apply applies an operation together with its tag, as one step.
func (s *Store) Apply(ctx context.Context, tag Tag, op Operation) (applied bool, err error) {
	if tag.Session == 0 || tag.Number == 0 {
		return false, s.errorf("apply", fmt.Errorf("session %d, operation %d: both are numbered from 1", tag.Session, tag.Number))
	}
	switch op.Change {
	case ChangeAppend, ChangeSet, ChangeSetOnce:
		if _, err := partd.CheckEntries("apply", op.Entries); err != nil {
			return false, err
		}
	case ChangeDelete:
		if err := partd.CheckKeys("apply", op.Keys); err != nil {
			return false, err
		}
	}
	switch op.Change {
	case ChangeAppend:
		return s.change(ctx, "append", tag, appendOp(op.Entries))
	case ChangeSet, ChangeSetOnce:
		if len(op.Entries) != 1 {
			return false, s.errorf("apply", fmt.Errorf("a set has one entry, not %d", len(op.Entries)))
		}
		e := op.Entries[0]
		return s.change(ctx, "set", tag, &setOp{key: e.Key, value: e.Value, once: op.Change == ChangeSetOnce})
	case ChangeDelete:
		return s.change(ctx, "delete", tag, deleteOp(op.Keys))
	case ChangeDrop:
		applied, err := s.drop(ctx, tag)
		return applied, s.errorf("drop", err)
	}
	return false, s.errorf("apply", errors.New("an unknown change"))
}
