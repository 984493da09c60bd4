package tables

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/go-partd/partd/internal/disk/vfs"
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
// has less space. The error wraps [errors.ErrUnsupported] if the operating system does not report them.
func (s *Store) DiskSpace() (free, total int64, err error) {
	s = s.orUnopened()
	disk, ok := vfs.FS(vfs.OS{}).(interface {
		vfs.SpaceReporter
		Capacity(dir string) (int64, error)
	})
	if !ok || s.local == "" {
		return 0, 0, fmt.Errorf("%w: the free space of a disk", errors.ErrUnsupported)
	}
	dir := s.local
	if free, err = disk.Free(dir); err == nil && s.opts.TailDir != "" {
		var tailFree int64
		tailFree, err = disk.Free(filepath.Dir(s.opts.TailDir))
		if tailFree < free {
			free, dir = tailFree, filepath.Dir(s.opts.TailDir)
		}
	}
	if err != nil {
		return free, total, err
	}
	total, err = disk.Capacity(dir)
	return free, total, err
}
