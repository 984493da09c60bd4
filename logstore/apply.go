package logstore

import (
	"context"
	"encoding/binary"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/storeerror"
)

// NewSession issues a session, which is as durable as an append.
func (s *Store) NewSession(ctx context.Context) (uint64, error) {
	op := &sessionOp{kind: recordSession}
	_, err := s.change(ctx, "new session", partd.Tag{}, op)
	return op.session, err
}

// EndSession forgets a session.
func (s *Store) EndSession(ctx context.Context, session uint64) error {
	_, err := s.change(ctx, "end session", partd.Tag{}, &sessionOp{kind: recordEndSession, session: session})
	return err
}

// SessionToken returns the token of a session. Its secret is the random numbers
// in the store's manifest, which are never disclosed.
func (s *Store) SessionToken(_ context.Context, session uint64) (partd.SessionToken, error) {
	if s.dir == "" {
		return partd.SessionToken{}, s.errorf("session token", storeerror.ErrNotOpened)
	}
	secret := binary.LittleEndian.AppendUint64(nil, s.format.ID)
	return partd.NewSessionToken(binary.LittleEndian.AppendUint64(secret, s.format.Seed), session), nil
}

// CheckSession returns an error unless token belongs to the session.
func (s *Store) CheckSession(ctx context.Context, session uint64, token partd.SessionToken) error {
	want, err := s.SessionToken(ctx, session)
	if err != nil {
		return err
	}
	return want.Check(session, token)
}

// ReaderMemory returns the memory that an open reader takes and that a
// listing takes, in bytes.
func (s *Store) ReaderMemory() (reader, listing int64) {
	// A scan that is not alone loads 1 MiB, groups it, and is two batches ahead.
	return 256 << 10, 5 << 20
}

// Apply applies an operation together with its tag, as one step.
func (s *Store) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	if err := partd.CheckOperation(tag, op); err != nil {
		return false, err
	}
	switch op.Change {
	case partd.ChangeAppend:
		return s.change(ctx, "append", tag, appendOp(op.Entries))
	case partd.ChangeSet, partd.ChangeSetOnce:
		e := op.Entries[0]
		return s.change(ctx, "set", tag, &setOp{key: e.Key, value: e.Value, once: op.Change == partd.ChangeSetOnce})
	case partd.ChangeDelete:
		return s.change(ctx, "delete", tag, s.lookFor(ctx, op.Keys))
	default:
		applied, err := s.drop(ctx, tag)
		return applied, s.errorf("drop", err)
	}
}
