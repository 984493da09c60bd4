package vfs

import (
	"io/fs"
	"syscall"
)

var _ SpaceTeller = OS{}

// Free is for who has no special rights: a reserve of the system's is left out.
func (OS) Free(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := retry(func() error { return syscall.Statfs(dir, &st) }); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
