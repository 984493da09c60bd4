package partd

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd/internal/base/storeerror"
)

var (
	// ErrUnknownOutcome is wrapped by the error for an operation that may or may not have taken
	// effect: the connection or the context ended after the request was sent, or a sync failed.
	// Only after this error may a retry append twice.
	ErrUnknownOutcome = storeerror.ErrUnknownOutcome

	// ErrTooLarge is wrapped by the error for a key, value, batch or message that
	// exceeds its limit. The operation changed nothing.
	ErrTooLarge = storeerror.ErrTooLarge

	// ErrNeedsReopen is wrapped by the error of every write after the state of the
	// store's files became unknown, for example because a sync failed. Reads still work.
	// To write again, close and reopen the store.
	ErrNeedsReopen = storeerror.ErrNeedsReopen

	// ErrClosed is wrapped by the error of every operation on a closed store.
	ErrClosed = storeerror.ErrClosed // wraps [io/fs.ErrClosed]

	// ErrInUse is wrapped by the error for opening a store that is already open, in this process or
	// another. The error names the other process if it is known.
	ErrInUse = storeerror.ErrInUse

	// ErrSessionExpired is wrapped by the error for an unknown session. The session was ended,
	// belongs to another store, or was forgotten because there were too many sessions.
	ErrSessionExpired = storeerror.ErrSessionExpired

	// ErrSessionGap is wrapped by the error for an operation whose number is too high,
	// because an earlier operation in the session never arrived.
	ErrSessionGap = storeerror.ErrSessionGap

	// ErrSessionReused is wrapped by the error for an operation that has the number
	// of a different, earlier operation.
	ErrSessionReused = storeerror.ErrSessionReused
)

// Error is the error for an operation on a store. It names the operation and its object, and wraps
// the cause.
type Error struct {
	Op     string // operation: "append", "get", "open", …
	Key    string // key; meaningful only if HasKey is set
	HasKey bool   // needed because "" is a key
	Path   string // file or address, or "Dict"; may be empty
	Err    error  // cause
}

func (e *Error) Error() string {
	text := "partd: " + e.Op
	if e.HasKey {
		text += " key " + storeerror.QuoteKey(e.Key)
	}
	if e.Path != "" {
		text += " " + e.Path
	}
	return fmt.Sprintf("%s: %v", text, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CorruptError reports that a file differs from what was written to it.
type CorruptError struct {
	Path   string // file
	Offset int64  // position of the damage in the file, in bytes; -1 if it is unknown
	Err    error  // the damage
}

func (e *CorruptError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%s is corrupt: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("%s is corrupt at offset %d: %v", e.Path, e.Offset, e.Err)
}

// Unwrap returns the description of the damage.
func (e *CorruptError) Unwrap() error { return e.Err }

func unsupportedError(op string, store Partd) error {
	if store == nil {
		return &Error{Op: op, Err: fmt.Errorf("the store is nil: %w", errors.ErrUnsupported)}
	}
	return &Error{Op: op, Err: fmt.Errorf("%T: %w", store, errors.ErrUnsupported)}
}
