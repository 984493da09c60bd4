// Package storeerror defines the errors of package partd that internal packages also return. It also checks
// the arguments of stores; package storekit exports the checks.
package storeerror

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"syscall"
)

// Package partd documents these errors under the same names.
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

type retriedByClose struct{ error }

func (r retriedByClose) Unwrap() error { return r.error }

// RetriedByClose marks the error of a flush that the store's Close repeats if anything is left to
// flush. Only the result of Close then counts. RetriedByClose returns nil if err is nil.
func RetriedByClose(err error) error {
	if err == nil {
		return nil
	}
	return retriedByClose{err}
}

// LosesNothing reports whether closing a store after its flush failed with err cannot lose data
// silently: Close flushes again, or the store or the user cannot flush at all.
func LosesNothing(err error) bool {
	// A syscall.Errno, such as EACCES, can match these errors, but it means that a write failed.
	refused := errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission)
	return errors.As(err, new(retriedByClose)) || refused && !errors.As(err, new(syscall.Errno))
}

// Package partd documents these limits under the same names.
const (
	MaxKeyLen   = 1<<16 - 1
	MaxValueLen = 1<<31 - 1
	MaxBatchLen = 1<<32 - 1
	MaxParts    = 1 << 16
)

// Error has the fields of partd.Error, so that a *Error can be converted to a *partd.Error.
type Error struct {
	Op     string
	Key    string
	HasKey bool
	Path   string
	Err    error
}

type entry = struct {
	Key   string
	Value []byte
}

// CheckEntries returns the total length of the values in bytes, or an error if the batch exceeds a
// limit. E is partd.Entry, which this package cannot import.
func CheckEntries[E ~entry](op string, entries []E) (valueBytes int64, _ *Error) {
	var keyBytes int64
	for i := range entries {
		e := entry(entries[i])
		if len(e.Key) > MaxKeyLen || len(e.Value) > MaxValueLen {
			return 0, tooLargeError(op, e.Key, len(e.Value))
		}
		keyBytes += int64(len(e.Key))
		valueBytes += int64(len(e.Value))
	}
	if keyBytes+valueBytes > MaxBatchLen {
		return 0, &Error{Op: op, Err: fmt.Errorf(
			"%w: a batch of %d entries holds %d bytes, the limit is %d: append it in parts",
			ErrTooLarge, len(entries), keyBytes+valueBytes, int64(MaxBatchLen))}
	}
	return valueBytes, nil
}

// CheckKeys returns an error if a key is too long.
func CheckKeys(op string, keys []string) *Error {
	for _, k := range keys {
		if len(k) > MaxKeyLen {
			return tooLargeError(op, k, 0)
		}
	}
	return nil
}

// CheckPart returns an error unless parts is valid and part is in [0, parts).
func CheckPart(part, parts int) *Error {
	if parts < 1 || parts > MaxParts || part < 0 || part >= parts {
		return &Error{Op: "scan", Err: fmt.Errorf(
			"part %d of %d: parts are numbered from 0, and there are 1 to %d", part, parts, MaxParts)}
	}
	return nil
}

func tooLargeError(op, key string, valueLen int) *Error {
	err := fmt.Errorf("%w: the value has %d bytes, the limit is %d: append it in parts", ErrTooLarge, valueLen, MaxValueLen)
	if len(key) > MaxKeyLen {
		err = fmt.Errorf("%w: the key has %d bytes, the limit is %d", ErrTooLarge, len(key), MaxKeyLen)
	}
	return &Error{Op: op, Key: key, HasKey: true, Err: err}
}
