package logstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/sessiontab"
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

// ReaderMemory returns the memory that an open reader and a listing of keys use, in bytes.
func (s *Store) ReaderMemory() (reader, listing int64) {
	// A listing is a scan. If other scans use all memory for scans, the listing uses at most
	// minWorkerBytes for entries and references to them, plus two batches.
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

// sessionTable holds the last operation of each session that the store remembers.
type sessionTable struct {
	issued         uint64 // last session issued: 32 random bits, followed by a 32-bit counter
	lastOperations *sessiontab.Table[sessiontab.Operation]
}

func newSessionTable(issued uint64) sessionTable {
	return sessionTable{issued, new(sessiontab.Table[sessiontab.Operation])}
}

func (t *sessionTable) clone() sessionTable {
	c := newSessionTable(t.issued)
	if t.lastOperations != nil {
		for s, operation := range t.lastOperations.All() {
			c.put(s, operation)
		}
	}
	return c
}

func (t *sessionTable) put(session uint64, last sessiontab.Operation) {
	if last.Number == 0 {
		t.lastOperations.Add(session, last)
	} else {
		t.lastOperations.Use(session, last)
	}
}

// check returns true if tag is zero or the tag of its session's next operation. It returns false
// if the operation was applied before, and an error if the tag is invalid.
func (t *sessionTable) check(tag partd.Tag) (isNew bool, err error) {
	if tag == (partd.Tag{}) {
		return true, nil
	}
	lastOperation, known := t.lastOperations.Get(tag.Session)
	switch {
	case !known && (tag.Session == 0 || tag.Session > t.issued):
		return false, fmt.Errorf("session %d was never issued by this store: %w", tag.Session, partd.ErrSessionExpired)
	case !known:
		return false, sessiontab.ExpiredError(tag.Session)
	}
	return lastOperation.IsNext(tag.Session, operationOf(tag))
}

func operationOf(tag partd.Tag) sessiontab.Operation {
	return sessiontab.Operation{Number: tag.Number, CRC: tag.CRC}
}

// apply updates the table with a record that issues, uses or ends a session.
func (t *sessionTable) apply(h recordHeader, maxSessions int) {
	if !h.tagged {
		return
	}
	switch h.kind {
	case recordSession:
		t.issued = max(t.issued, h.tag.Session)
		for t.lastOperations.Len() >= maxSessions {
			t.lastOperations.Remove(t.lastOperations.Oldest(maxSessions))
		}
		t.lastOperations.Add(h.tag.Session, sessiontab.Operation{})
	case recordEndSession:
		t.lastOperations.Remove(h.tag.Session)
	case recordBatch:
		if _, known := t.lastOperations.Get(h.tag.Session); known {
			t.lastOperations.Use(h.tag.Session, operationOf(h.tag))
		}
	}
}

const sessionLen = 8 + 8 + 4

func (t *sessionTable) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, t.issued)
	b = le.AppendUint32(b, uint32(t.lastOperations.Len()))
	for s, operation := range t.lastOperations.All() {
		b = le.AppendUint64(b, s)
		b = le.AppendUint64(b, operation.Number)
		b = le.AppendUint32(b, operation.CRC)
	}
	return b
}

func parseSessions(b []byte) (sessionTable, error) {
	le := binary.LittleEndian
	t := newSessionTable(0)
	if len(b) < 12 {
		return t, errors.New("the session table is truncated")
	}
	t.issued = le.Uint64(b)
	n := le.Uint32(b[8:])
	b = b[12:]
	if uint64(n)*sessionLen != uint64(len(b)) {
		return t, fmt.Errorf("the session table claims %d sessions, which does not match its length of %d bytes", n, len(b))
	}
	for range n {
		t.put(le.Uint64(b), sessiontab.Operation{Number: le.Uint64(b[8:]), CRC: le.Uint32(b[16:])})
		b = b[sessionLen:]
	}
	return t, nil
}
