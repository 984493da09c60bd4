package filedir

import (
	"crypto/sha256"
	"encoding/binary"
)

// bootID returns a number that stays the same until the machine restarts, or 0 if the system does not
// provide one. If the number is unchanged after an interrupted write, the power did not fail.
func bootID() uint64 {
	text := bootSession()
	if text == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(text))
	return binary.LittleEndian.Uint64(sum[:]) | 1
}
