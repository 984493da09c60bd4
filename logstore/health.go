package logstore

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/storeerror"
)

// health records whether the store accepts changes and, if not, why. It reports and logs failures.
type health struct {
	dir      string
	log      *slog.Logger
	readOnly bool
	closed   bool // Store.mu guards it

	poisonErr atomic.Pointer[error] // error that made the store refuse writes until it is reopened, or nil
	noWALErr  atomic.Pointer[error] // error that limits the store to reads and Drop, or nil: see noWALError
}

// ErrReadOnly is wrapped by errors from changes to a store that was opened with Options.ReadOnly.
var ErrReadOnly = errors.New("the store is open for reading only")

// maybeApplied wraps the error for a write that may have taken effect.
type maybeApplied struct{ error }

func (u maybeApplied) Unwrap() error { return u.error }

// commitError returns the error for an operation whose last step, its commit, failed with err. It
// adds partd.ErrUnknownOutcome if the commit may have taken effect. Do not use it for errors from
// earlier steps, because after them the operation certainly had no effect.
func commitError(err error) error {
	if _, ok := errors.AsType[maybeApplied](err); ok {
		return fmt.Errorf("%w (%w)", err, partd.ErrUnknownOutcome)
	}
	return err
}

func isFull(err error) bool { return err != nil && (isNoSpace(err) || errors.Is(err, errNoRoom)) }

var errNoRoom = errors.New("the disk is full: until you free space and reopen the store, it supports only reads and Drop")

var errNoWALAfterDrop = errors.New("the store was dropped, but could not begin a new write-ahead file: the next change retries")

var errHanging = errors.New("the disk does not finish a sync")

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// warn logs err, unless it is nil. Call it only for errors that do not endanger data. The message
// says what failed; args are key-value pairs.
func (h *health) warn(err error, message string, args ...any) {
	if err != nil {
		h.log.Warn("logstore: "+message, append(args, "dir", h.dir, "err", err)...)
	}
}

// poison makes the store refuse all further writes because of err. It returns err.
func (h *health) poison(err error) error {
	if h.poisonErr.CompareAndSwap(nil, &err) {
		h.log.Error("logstore: the store refuses writes until it is reopened", "dir", h.dir, "err", err)
	}
	return err
}

func (h *health) checkPoisoned() error {
	if p := h.poisonErr.Load(); p != nil {
		return fmt.Errorf("%w (%w)", partd.ErrNeedsReopen, *p)
	}
	return nil
}

func (h *health) opError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &partd.Error{Op: op, Path: h.dir, Err: err}
}

func (h *health) corruptError(err error) error {
	return &partd.CorruptError{Path: h.dir, Offset: -1, Err: err}
}

// noWALError returns an error while the store has no write-ahead file, because the disk was full or
// because Drop failed to begin a new one.
func (h *health) noWALError() error {
	err := h.noWALErr.Load()
	switch {
	case err == nil:
		return nil
	case isFull(*err):
		return fmt.Errorf("%w (%w)", errNoRoom, *err)
	}
	return fmt.Errorf("%w (%w)", errNoWALAfterDrop, *err)
}

func (h *health) openFlag() int {
	if h.readOnly || h.noWALError() != nil {
		return os.O_RDONLY
	}
	return os.O_RDWR
}

// canFlush reports whether the store can write tables as segments.
func (h *health) canFlush() bool {
	return !h.readOnly && h.checkPoisoned() == nil && h.noWALError() == nil
}

// checkWritable returns the reason why the store accepts no writes, or nil. Store.mu must be held.
func (h *health) checkWritable() error {
	switch {
	case h.dir == "":
		return storeerror.ErrNotOpened
	case h.closed:
		return partd.ErrClosed
	case h.readOnly:
		return ErrReadOnly
	}
	return cmp.Or(h.checkPoisoned(), h.noWALError())
}
