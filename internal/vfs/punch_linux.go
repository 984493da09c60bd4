package vfs

import (
	"io/fs"
	"syscall"
)

var _ Puncher = osFile{}

// Flags of fallocate(2).
const keepSize, punchHole = 1, 2

func (f osFile) Punch(off, n int64) error {
	err := retry(func() error { return syscall.Fallocate(int(f.Fd()), keepSize|punchHole, off, n) })
	if err != nil {
		return &fs.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	return nil
}
