package tables

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-partd/partd/internal/disk/space"
)

// Backlog describes the rows in the tail (the log of recent appends) that are not yet folded into files.
type Backlog struct {
	Rows, Bytes int64
	Oldest      time.Time // when the oldest of the rows was put; zero if there are no rows
}

// Backlog returns the backlog of all tables. It leaves out tables whose rows in the tail cannot be read, also those that
// nobody has read since Open if the catalog does not respond within five seconds.
func (s *Store) Backlog() (b Backlog) {
	s = s.orUnopened()
	if s.tail != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.commits.ReadTails(ctx)
		b.Rows, b.Bytes, b.Oldest = s.tail.Size()
	}
	return b
}

// DiskSpace returns the free and total bytes of the disk with the tail, or of the disk with the catalog if that disk
// has less space. It returns an error if a disk is read-only or has no free inodes, unless the store is open only for
// reading. The error wraps [errors.ErrUnsupported] if the operating system does not report them.
func (s *Store) DiskSpace() (free, total int64, err error) { return s.orUnopened().diskSpace() }

func (s *core) diskSpace() (free, total int64, err error) {
	if s.local == "" {
		return 0, 0, fmt.Errorf("%w: the free space of a disk", errors.ErrUnsupported)
	}
	free, total, err = space.Disk(s.local)
	if s.opts.TailDir != "" && err == nil {
		var tailFree, tailTotal int64
		tailFree, tailTotal, err = space.Disk(filepath.Dir(s.opts.TailDir))
		if tailFree < free {
			free, total = tailFree, tailTotal
		}
	}
	if s.opts.ReadOnly && (errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOSPC)) {
		err = nil
	}
	return free, total, err
}
