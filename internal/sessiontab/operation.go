package sessiontab

import (
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"

	"github.com/go-partd/partd/internal/storeerror"
)

// MaxSessions is how many sessions a Dict or a File remembers. One more, and
// another is forgotten.
const MaxSessions = 1 << 13

// Operation is what is remembered of a session: the last operation that was
// applied. Its number is 0 in a new session.
type Operation struct {
	Number uint64
	CRC    uint32 // of the request
}

// IsNext reports whether an operation is the next one of its session. It is not if
// it was applied before.
func (last Operation) IsNext(session uint64, op Operation) (bool, error) {
	switch {
	case op.Number == last.Number+1:
		return true, nil
	case op.Number > last.Number:
		return false, fmt.Errorf("session %d: operation %d came after %d: %w", session, op.Number, last.Number, storeerror.ErrSessionGap)
	case op.Number == last.Number && op.CRC != last.CRC:
		return false, fmt.Errorf("session %d, operation %d: %w", session, op.Number, storeerror.ErrSessionReused)
	}
	return false, nil
}

// Expired is the cause of an error for a session that is not known, if it ever was.
func Expired(session uint64) error {
	return fmt.Errorf("session %d: %w", session, storeerror.ErrSessionExpired)
}

// NewIncarnation returns the number before that of a table's first session. Two
// tables hardly ever give the same number to a session, and so a session that
// another one issued is not taken for one of this.
func NewIncarnation() uint64 { return (1 + uint64(rand.Uint32N(1<<32-1))) << 32 }

// SecretLen is the length of what tokens are made with, in bytes.
const SecretLen = 16

// NewSecret returns what the tokens of a table's sessions are made with.
func NewSecret() []byte {
	secret := make([]byte, SecretLen)
	_, _ = crand.Read(secret) // it never fails: the program ends where there is no randomness
	return secret
}
