package partd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/storeerror"
)

var (
	// ErrUnknownOutcome is wrapped by the error of an operation that may or may not have
	// taken effect: a connection lost or a context ended after sending, a sync that
	// failed. Only then may a retry double.
	ErrUnknownOutcome = storeerror.ErrUnknownOutcome

	// ErrTooLarge is wrapped by the error for a key, a value, a batch or a
	// message over its limit. Nothing of it was applied.
	ErrTooLarge = errors.New("too large")

	// ErrNeedsReopen is wrapped by every write to a store whose true state is
	// unknown, after a failed sync for example. Reads go on; opening the store
	// again finds out.
	ErrNeedsReopen = storeerror.ErrNeedsReopen

	// ErrClosed is wrapped by every operation on a closed store.
	ErrClosed = storeerror.ErrClosed // wraps [io/fs.ErrClosed]

	// ErrInUse is wrapped by the error of opening a store that is already open, in this
	// process or another. The error names the process where it is known.
	ErrInUse = storeerror.ErrInUse

	// ErrSessionExpired is wrapped by the error for a session that was ended,
	// that was forgotten because there were too many, or that another store
	// issued.
	ErrSessionExpired = storeerror.ErrSessionExpired

	// ErrSessionGap is wrapped by the error for an operation whose number is not
	// the next one: an earlier one never arrived.
	ErrSessionGap = storeerror.ErrSessionGap

	// ErrSessionReused is wrapped by the error for an operation that bears the
	// number of another one.
	ErrSessionReused = storeerror.ErrSessionReused
)

// Error is the error of an operation on a store. It says what was tried, on
// what, and wraps the cause.
type Error struct {
	Op     string // the operation: "append", "get", "open", …
	Key    string // the key concerned, if HasKey
	HasKey bool   // the empty key is a key, too
	Path   string // the file or address concerned; of a store without, what it is ("Dict"); may be empty
	Err    error  // the cause
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("partd: ")
	b.WriteString(e.Op)
	if e.HasKey {
		b.WriteString(" key ")
		b.WriteString(QuoteKey(e.Key))
	}
	if e.Path != "" {
		b.WriteByte(' ')
		b.WriteString(e.Path)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ContextError returns nil while ctx goes on. Then it returns the error for an
// operation that ended early: it wraps ctx.Err() and the context's cause. Where
// the cause wraps [ErrUnknownOutcome], as that of another goroutine's append may,
// the error does not: this operation has changed nothing. A store's own methods
// return it.
func ContextError(ctx context.Context) error { return canceled.Err(ctx) }

// CorruptError says that a file does not hold what was written to it.
type CorruptError struct {
	Path   string // the file
	Offset int64  // where in the file the damage was noticed, in bytes; -1 if it is the whole file
	Err    error  // what was expected and what was found
}

func (e *CorruptError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%s is corrupt: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("%s is corrupt at offset %d: %v", e.Path, e.Offset, e.Err)
}

// Unwrap returns what was expected and what was found.
func (e *CorruptError) Unwrap() error { return e.Err }

// QuoteKey returns a key as a Go string literal for a message, shortened in
// the middle where it is long.
func QuoteKey(key string) string {
	const maxLen = 80
	if len(key) <= maxLen {
		return strconv.Quote(key)
	}
	return fmt.Sprintf("%q…%q (%d bytes)", key[:maxLen/2], key[len(key)-maxLen/4:], len(key))
}

// unsupported returns the error of a helper on a store that lacks an ability.
func unsupported(op string, store Partd) error {
	if store == nil {
		return &Error{Op: op, Err: fmt.Errorf("the store is nil: %w", errors.ErrUnsupported)}
	}
	return &Error{Op: op, Err: fmt.Errorf("%T: %w", store, errors.ErrUnsupported)}
}
