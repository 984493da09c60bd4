// Package storeerror defines the errors of package partd that internal packages also return.
package storeerror

import (
	"errors"
	"fmt"
	"io/fs"
)

// Package partd documents these errors, under the same names.
var (
	ErrUnknownOutcome = errors.New("the outcome is unknown: the operation may have taken effect, and a retry may apply it twice")
	ErrNeedsReopen    = errors.New("writes are refused until the store is opened again, because an earlier write failed and its state is unknown")
	ErrClosed         = fmt.Errorf("the store is closed (%w)", fs.ErrClosed)
	ErrNotOpened      = fmt.Errorf("it is a zero value, not made by its constructor: %w", ErrClosed)
	ErrInUse          = errors.New("in use")
	ErrSessionExpired = errors.New("the session is over, or was forgotten because there were too many: begin a new one")
	ErrSessionGap     = errors.New("an earlier operation of the session is missing")
	ErrSessionReused  = errors.New("the number belongs to another operation of the session")
)
