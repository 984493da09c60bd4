package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/sessiontab"
)

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
