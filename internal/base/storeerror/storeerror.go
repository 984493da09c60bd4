// Package storeerror defines the errors of package partd that internal packages also return, and checks the
// arguments of stores. Package storekit exports the checks.
package storeerror

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
)

// Package partd documents these errors, under the same names.
var (
	ErrTooLarge       = errors.New("too large")
	ErrUnknownOutcome = errors.New("the outcome is unknown: the operation may have taken effect, and a retry may apply it twice")
	ErrNeedsReopen    = errors.New("writes are refused until the store is opened again, because an earlier write failed and its state is unknown")
	ErrClosed         = fmt.Errorf("the store is closed (%w)", fs.ErrClosed)
	ErrNotOpened      = fmt.Errorf("it is a zero value, not made by its constructor: %w", ErrClosed)
	ErrInUse          = errors.New("in use")
	ErrSessionExpired = errors.New("the session is over, or was forgotten because there were too many: begin a new one")
	ErrSessionGap     = errors.New("an earlier operation of the session is missing")
	ErrSessionReused  = errors.New("the number belongs to another operation of the session")
)

// QuoteKey returns a key as a Go string literal, for use in messages. It omits the middle of a long
// key.
func QuoteKey(key string) string {
	const maxLen = 80
	if len(key) <= maxLen {
		return strconv.Quote(key)
	}
	return fmt.Sprintf("%q…%q (%d bytes)", key[:maxLen/2], key[len(key)-maxLen/4:], len(key))
}
