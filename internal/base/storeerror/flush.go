package storeerror

import (
	"errors"
	"io/fs"
	"syscall"
)

type retriedByClose struct{ error }

func (r retriedByClose) Unwrap() error { return r.error }

// RetriedByClose marks the error of a flush that the store's Close repeats if anything is left to
// flush. So the error of Close, or its success, is what counts. It returns nil if err is nil.
func RetriedByClose(err error) error {
	if err == nil {
		return nil
	}
	return retriedByClose{err}
}

// LosesNothing reports whether a store can be closed after a flush that failed with err, without
// losing data silently: Close flushes again, or the store or the user cannot flush at all.
func LosesNothing(err error) bool {
	// A syscall.Errno, such as EACCES, can equal these errors, but then a write failed.
	refused := errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission)
	return errors.As(err, new(retriedByClose)) || refused && !errors.As(err, new(syscall.Errno))
}
