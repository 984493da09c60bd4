package logstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

var (
	_ partd.Applier      = (*Store)(nil)
	_ partd.SessionGuard = (*Store)(nil)
)

// NewSession issues a session. It survives what an append survives.
func (s *Store) NewSession(ctx context.Context) (uint64, error) {
	var session uint64
	err := s.sessionRecord(ctx, "new session", func() recordHeader {
		session = s.sessions.issued + 1
		return recordHeader{kind: recordSession, tagged: true, tag: partd.Tag{Session: session}}
	})
	return session, err
}

// EndSession forgets a session.
func (s *Store) EndSession(ctx context.Context, session uint64) error {
	return s.sessionRecord(ctx, "end session", func() recordHeader {
		return recordHeader{kind: recordEndSession, tagged: true, tag: partd.Tag{Session: session}}
	})
}

// SessionToken returns the token of a session. Its secret is in the manifest: the
// random numbers that the store was made with, of which nobody is told.
func (s *Store) SessionToken(_ context.Context, session uint64) (partd.SessionToken, error) {
	secret := binary.LittleEndian.AppendUint64(nil, s.format.ID)
	return partd.NewSessionToken(binary.LittleEndian.AppendUint64(secret, s.format.Seed), session), nil
}

// CheckSession returns an error unless a token is that of the session.
func (s *Store) CheckSession(ctx context.Context, session uint64, token partd.SessionToken) error {
	want, err := s.SessionToken(ctx, session)
	if err != nil {
		return err
	}
	return want.Check(session, token)
}

// ReaderMemory returns what an open reader takes, and a listing.
func (s *Store) ReaderMemory() (reader, listing int64) {
	// A scan that is not alone loads 1 MiB, groups it, and is two batches ahead.
	return 256 << 10, 5 << 20
}

// sessionRecord writes a record without entries. header is called with mu held.
func (s *Store) sessionRecord(ctx context.Context, opName string, header func() recordHeader) error {
	if ctx.Err() != nil {
		return s.errorf(opName, context.Cause(ctx))
	}
	s.life.RLock()
	defer s.life.RUnlock()
	s.mu.Lock()
	if err := s.writableAgain(); err != nil {
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
	var seq uint64
	if err = s.makeRoom(ctx, b); err == nil {
		seq = s.seq
		err = outcome(s.writeBatch(b, header()))
	}
	s.mu.Unlock()
	if err == nil {
		err = s.acknowledge(seq)
	}
	return s.errorf(opName, err)
}

// Apply applies an operation together with its tag, as one step.
func (s *Store) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	if tag.Session == 0 || tag.Number == 0 {
		return false, s.errorf("apply", fmt.Errorf("session %d, operation %d: both are numbered from 1", tag.Session, tag.Number))
	}
	switch op.Change {
	case partd.ChangeAppend, partd.ChangeSet, partd.ChangeSetOnce:
		if _, err := partd.CheckEntries("apply", op.Entries); err != nil {
			return false, err
		}
	case partd.ChangeDelete:
		if err := partd.CheckKeys("apply", op.Keys); err != nil {
			return false, err
		}
	}
	switch op.Change {
	case partd.ChangeAppend:
		return s.change(ctx, "append", tag, appendOp(op.Entries))
	case partd.ChangeSet, partd.ChangeSetOnce:
		if len(op.Entries) != 1 {
			return false, s.errorf("apply", fmt.Errorf("a set has one entry, not %d", len(op.Entries)))
		}
		e := op.Entries[0]
		return s.change(ctx, "set", tag, &setOp{key: e.Key, value: e.Value, once: op.Change == partd.ChangeSetOnce})
	case partd.ChangeDelete:
		return s.change(ctx, "delete", tag, deleteOp(op.Keys))
	case partd.ChangeDrop:
		applied, err := s.drop(ctx, tag)
		return applied, s.errorf("drop", err)
	}
	return false, s.errorf("apply", errors.New("an unknown change"))
}
