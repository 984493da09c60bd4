package partd

import (
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
)

// maxSessions is how many sessions a Dict or a File remembers. One more, and
// another is forgotten.
const maxSessions = 1 << 13

// lastOperation is what is remembered of a session: the last operation that was
// applied. Its number is 0 in a new session.
type lastOperation struct {
	number uint64
	crc    uint32
}

// isNext tells whether an operation is the next one of its session. It is not if
// it was applied before.
func (last lastOperation) isNext(tag Tag) (bool, error) {
	switch {
	case tag.Number == last.number+1:
		return true, nil
	case tag.Number > last.number:
		return false, fmt.Errorf("session %d: operation %d came after %d: %w", tag.Session, tag.Number, last.number, ErrSessionGap)
	case tag.Number == last.number && tag.CRC != last.crc:
		return false, fmt.Errorf("session %d, operation %d: %w", tag.Session, tag.Number, ErrSessionReused)
	}
	return false, nil
}

// expired is the cause of an error for a session that is not known, if it ever was.
func expired(session uint64) error { return fmt.Errorf("session %d: %w", session, ErrSessionExpired) }

// newIncarnation returns the number before that of a table's first session. Two
// tables hardly ever give the same number to a session, and so a session that
// another one issued is not taken for one of this.
func newIncarnation() uint64 { return (1 + uint64(rand.Uint32N(1<<32-1))) << 32 }

// newSessionSecret returns what the tokens of a table's sessions are made with.
func newSessionSecret() []byte {
	secret := make([]byte, secretLen)
	_, _ = crand.Read(secret) // it never fails: the program ends where there is no randomness
	return secret
}

const secretLen = 16

// checkOperation tells whether an operation, with its tag, is one that a store
// can apply.
func checkOperation(tag Tag, op Operation) error {
	if tag.Session == 0 || tag.Number == 0 {
		return &Error{Op: "apply", Err: fmt.Errorf("session %d, operation %d: both are numbered from 1", tag.Session, tag.Number)}
	}
	switch op.Change {
	case ChangeAppend:
		_, err := CheckEntries("append", op.Entries)
		return err
	case ChangeSet, ChangeSetOnce:
		if len(op.Entries) != 1 {
			return &Error{Op: "apply", Err: fmt.Errorf("a set has one entry, not %d", len(op.Entries))}
		}
		_, err := CheckEntries("set", op.Entries)
		return err
	case ChangeDelete:
		return CheckKeys("delete", op.Keys)
	case ChangeDrop:
		return nil
	}
	return &Error{Op: "apply", Err: errors.New("an unknown change")}
}
