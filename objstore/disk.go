package objstore

import (
	"fmt"
	"sync/atomic"
	"syscall"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// scanDisk holds the temporary files of all readers.
type scanDisk struct {
	opts *Options
	temp *tempdir.Set // nil if Options.Disk is 0
	used atomic.Int64 // bytes that readers have reserved for files in temp
}

// reserve reserves n more bytes of the disk limit, and adds them to *reserved, the number of bytes
// that the reader already has.
func (d *scanDisk) reserve(n int64, reserved *int64) error {
	if used := d.used.Add(n); used > d.opts.Disk {
		d.used.Add(-n)
		return diskLimitError(*reserved+n, d.opts.Disk, used-n-*reserved)
	}
	*reserved += n
	return nil
}

func diskLimitError(need, limit, used int64) error {
	return fmt.Errorf("reading in one pass needs about %s of disk, but the disk option allows %s, "+
		"and other readers use %s of it: increase the disk option, divide the store among more readers, "+
		"or set disk=0 to read in many passes", mib(need), mib(limit), mib(used))
}

func (d *scanDisk) checkFree(need int64) error {
	disk, ok := d.opts.hooks.fs.(vfs.SpaceReporter)
	if !ok {
		return nil
	}
	free, err := disk.Free(d.opts.DiskDir)
	if err == nil && free < need {
		return fmt.Errorf("reading in one pass needs about %s of disk in %s, but only %s are free: "+
			"set the disk-dir option to another directory, divide the store among more readers, "+
			"or set disk=0 to read in many passes: %w", mib(need), d.opts.DiskDir, mib(free), syscall.ENOSPC)
	}
	return d.fileError(err)
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }

// fileError wraps an error from the temporary file, and adds advice for the user.
func (d *scanDisk) fileError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("regrouping in a temporary file in %s (set the disk-dir option to another directory, "+
		"or disk=0 to read in many passes without a file): %w", d.opts.DiskDir, err)
}
