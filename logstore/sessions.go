package logstore

import (
	"context"
	"encoding/binary"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/storekit"
)

// NewSession issues a session. The session is as durable as an append.
func (s *Store) NewSession(ctx context.Context) (uint64, error) {
	op := &sessionOp{kind: recordSession}
	_, err := s.change(ctx, "new session", partd.Tag{}, op)
	return op.session, err
}

// EndSession makes the store forget a session.
func (s *Store) EndSession(ctx context.Context, session uint64) error {
	_, err := s.change(ctx, "end session", partd.Tag{}, &sessionOp{kind: recordEndSession, session: session})
	return err
}

// SessionToken returns a session's token.
func (s *Store) SessionToken(_ context.Context, session uint64) (partd.SessionToken, error) {
	s.mu.Lock()
	notOpened, closed := s.dir == "", s.closed
	s.mu.Unlock()
	switch {
	case notOpened:
		return partd.SessionToken{}, s.opError("session token", storeerror.ErrNotOpened)
	case closed:
		return partd.SessionToken{}, s.opError("session token", partd.ErrClosed)
	}
	secret := binary.LittleEndian.AppendUint64(nil, s.format.ID)
	return storekit.NewSessionToken(binary.LittleEndian.AppendUint64(secret, s.format.Seed), session), nil
}

// CheckSession returns an error unless token is the session's token.
func (s *Store) CheckSession(ctx context.Context, session uint64, token partd.SessionToken) error {
	want, err := s.SessionToken(ctx, session)
	if err != nil {
		return err
	}
	return want.Check(session, token)
}

// ReaderMemory returns the memory that an open reader uses, and that a listing of keys uses, in
// bytes.
func (s *Store) ReaderMemory() (reader, listing int64) {
	// A listing is a scan. If other scans use all memory for scans, the listing uses at most
	// minWorkerBytes for entries and references to them, and fills two batches.
	return 256 << 10, 5 << 20
}

// Apply atomically applies an operation and records its tag; see [partd.Applier].
func (s *Store) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	if err := op.Check(tag); err != nil {
		return false, err
	}
	switch op.Change {
	case partd.ChangeAppend:
		return s.change(ctx, "append", tag, appendOp(op.Entries))
	case partd.ChangeSet, partd.ChangeSetOnce:
		e := op.Entries[0]
		return s.change(ctx, "set", tag, &setOp{key: e.Key, value: e.Value, once: op.Change == partd.ChangeSetOnce})
	case partd.ChangeDelete:
		return s.change(ctx, "delete", tag, s.newDeleteOp(ctx, op.Keys))
	default:
		applied, err := s.drop(ctx, tag)
		return applied, s.opError("drop", err)
	}
}
