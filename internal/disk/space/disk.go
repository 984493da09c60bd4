package space

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// Disk returns the free and total bytes of the disk that contains a directory. It returns an error
// if no file can be created there, because the disk is read-only or has no free inodes. The error
// wraps [errors.ErrUnsupported] if the operating system does not report these numbers.
func Disk(dir string) (free, total int64, err error) {
	disk, ok := vfs.FS(vfs.OS{}).(interface {
		vfs.SpaceReporter
		Capacity(dir string) (int64, error)
		CheckWritable(dir string) error
	})
	if !ok {
		return 0, 0, fmt.Errorf("%w: the free space of a disk", errors.ErrUnsupported)
	}
	free, err = disk.Free(dir)
	if err == nil {
		total, err = disk.Capacity(dir)
	}
	if err == nil {
		err = disk.CheckWritable(dir)
	}
	return free, total, err
}
