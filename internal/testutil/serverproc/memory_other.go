//go:build !linux

package serverproc

import (
	"errors"
	"time"
)

// Memory returns the resident memory of a process in bytes: now, and at the most.
func Memory(int) (now, most int64, err error) {
	return 0, 0, errors.ErrUnsupported
}

// CPU returns the time for which a process has used a processor.
func CPU(int) (time.Duration, error) { return 0, errors.ErrUnsupported }
