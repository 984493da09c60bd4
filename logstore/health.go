package logstore

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/go-partd/partd"
)

// ErrReadOnly is wrapped by errors of changes to a store that was opened with Options.ReadOnly.
var ErrReadOnly = errors.New("the store is open for reading only")

// maybeApplied wraps the error of a write that may have taken effect.
type maybeApplied struct{ error }

func (u maybeApplied) Unwrap() error { return u.error }

// commitError returns the error of an operation whose last step, its commit, failed with err.
// It adds partd.ErrUnknownOutcome if the commit may have taken effect. Do not use it for errors
// of earlier steps, after which the operation certainly had no effect.
func commitError(err error) error {
	if _, ok := errors.AsType[maybeApplied](err); ok {
		return fmt.Errorf("%w (%w)", err, partd.ErrUnknownOutcome)
	}
	return err
}

func isFull(err error) bool { return err != nil && (isNoSpace(err) || errors.Is(err, errNoRoom)) }

var errNoRoom = errors.New("the disk is full: until you free space and reopen the store, it supports only reads and Drop")

var errNotResumed = errors.New("the store was dropped, but could not begin a new write-ahead file: the next change retries")

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
