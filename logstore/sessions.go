package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/sessiontab"
)

func putTag(b []byte, t partd.Tag) {
	le := binary.LittleEndian
	le.PutUint64(b, t.Session)
	le.PutUint64(b[8:], t.Number)
	le.PutUint32(b[16:], t.CRC)
	le.PutUint32(b[20:], 0)
}

func parseTag(b []byte) partd.Tag {
	le := binary.LittleEndian
	return partd.Tag{Session: le.Uint64(b), Number: le.Uint64(b[8:]), CRC: le.Uint32(b[16:])}
}

// sessionTable knows the sessions that were issued and, of those not
// forgotten, the last operation.
type sessionTable struct {
	issued uint64 // the last session: the store's incarnation in the upper half, a counter in the lower
	last   *sessiontab.Table[lastOp]
}

type lastOp struct {
	number uint64
	crc    uint32
}

func newSessionTable(issued uint64) sessionTable {
	return sessionTable{issued, new(sessiontab.Table[lastOp])}
}

func (t *sessionTable) clone() sessionTable {
	c := newSessionTable(t.issued)
	if t.last != nil {
		for s, last := range t.last.All() {
			c.put(s, last)
		}
	}
	return c
}

// put notes a session as it was. One of which nothing was applied is not used.
func (t *sessionTable) put(session uint64, last lastOp) {
	if last.number == 0 {
		t.last.Add(session, last)
	} else {
		t.last.Use(session, last)
	}
}

// check reports whether the tag's operation is new.
func (t *sessionTable) check(tag partd.Tag) (isNew bool, err error) {
	last, known := t.last.Get(tag.Session)
	switch {
	case !known && (tag.Session == 0 || tag.Session > t.issued):
		return false, fmt.Errorf("session %d was never issued by this store: %w", tag.Session, partd.ErrSessionExpired)
	case !known:
		return false, fmt.Errorf("session %d: %w", tag.Session, partd.ErrSessionExpired)
	case tag.Number == last.number+1:
		return true, nil
	case tag.Number > last.number:
		return false, fmt.Errorf("session %d: operation %d came after %d: %w", tag.Session, tag.Number, last.number, partd.ErrSessionGap)
	case tag.Number == last.number && tag.CRC != last.crc:
		return false, fmt.Errorf("session %d, operation %d: %w", tag.Session, tag.Number, partd.ErrSessionReused)
	}
	return false, nil
}

// apply takes over what a record says about sessions.
func (t *sessionTable) apply(h recordHeader, most int) {
	if !h.tagged {
		return
	}
	switch h.kind {
	case recordSession:
		t.issued = max(t.issued, h.tag.Session)
		for t.last.Len() >= most {
			t.last.Remove(t.last.Oldest(most))
		}
		t.last.Add(h.tag.Session, lastOp{})
	case recordEndSession:
		t.last.Remove(h.tag.Session)
	case recordBatch:
		if _, known := t.last.Get(h.tag.Session); known {
			t.last.Use(h.tag.Session, lastOp{h.tag.Number, h.tag.CRC})
		}
	}
}

const sessionLen = 8 + 8 + 4

func (t *sessionTable) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, t.issued)
	b = le.AppendUint32(b, uint32(t.last.Len()))
	for s, last := range t.last.All() {
		b = le.AppendUint64(b, s)
		b = le.AppendUint64(b, last.number)
		b = le.AppendUint32(b, last.crc)
	}
	return b
}

func parseSessions(b []byte) (sessionTable, error) {
	le := binary.LittleEndian
	t := newSessionTable(0)
	if len(b) < 12 {
		return t, errors.New("its table of sessions is cut off")
	}
	t.issued = le.Uint64(b)
	n := le.Uint32(b[8:])
	b = b[12:]
	if uint64(n)*sessionLen != uint64(len(b)) {
		return t, fmt.Errorf("its table of sessions should have %d entries, but has %d bytes", n, len(b))
	}
	for range n {
		t.put(le.Uint64(b), lastOp{le.Uint64(b[8:]), le.Uint32(b[16:])})
		b = b[sessionLen:]
	}
	return t, nil
}
