//go:build unix

package vfs

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

var (
	_ SpaceReporter   = OS{}
	_ NetworkReporter = OS{}
)

// NoFollow is a flag for OpenFile. With it, opening a symbolic link fails, and opening a pipe does
// not block.
const NoFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// OpenFileLimit returns the maximum number of files that the process can have open, or 0 if it is unknown.
func OpenFileLimit() int {
	const maximum = 1 << 20 // returned if the process has no limit or a higher one
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Cur, maximum))
}

func (OS) NewLock(name string) Lock { return newLock(name, os.O_CREATE|os.O_RDONLY, 0o666) }

func (OS) Info(name string) (Info, error) {
	var st syscall.Stat_t
	if err := retryInterrupted(func() error { return syscall.Stat(name, &st) }); err != nil {
		return Info{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return infoOf(&st), nil
}

func (f osFile) Info() (Info, error) {
	var st syscall.Stat_t
	if err := retryInterrupted(func() error { return syscall.Fstat(int(f.Fd()), &st) }); err != nil {
		return Info{}, &fs.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return infoOf(&st), nil
}

func fileInfo(fi fs.FileInfo) Info { return infoOf(fi.Sys().(*syscall.Stat_t)) }

// Free returns the free space, in bytes, on the disk that contains a directory. It excludes the
// blocks reserved for root.
func (OS) Free(dir string) (int64, error) {
	free, _, err := diskSpace(dir)
	return free, err
}

// Capacity returns the total size, in bytes, of the disk that contains a directory.
func (OS) Capacity(dir string) (int64, error) {
	_, total, err := diskSpace(dir)
	return total, err
}

func diskSpace(dir string) (free, total int64, err error) {
	st, err := statfs(dir)
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), err
}

// CheckWritable returns an error if no file can be created on the disk that contains a directory, because the
// disk is read-only or has no free inodes.
func (OS) CheckWritable(dir string) error {
	st, err := statfs(dir)
	switch {
	case err != nil:
		return err
	case uint64(st.Flags)&1 != 0: // ST_RDONLY, which the BSDs call MNT_RDONLY
		return syscall.EROFS
	case st.Files > 0 && st.Ffree == 0: // file systems without a limit have 0 files
		return fmt.Errorf("%w for another file: the disk has no free inodes", syscall.ENOSPC)
	}
	return nil
}

// Network returns the kind of network file system that contains a directory, or "".
func (OS) Network(dir string) string {
	st, err := statfs(dir)
	if err != nil {
		return ""
	}
	return networkOf(&st)
}

func statfs(dir string) (st syscall.Statfs_t, err error) {
	if err := retryInterrupted(func() error { return syscall.Statfs(dir, &st) }); err != nil {
		return st, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return st, nil
}

func retryInterrupted(f func() error) error {
	for {
		if err := f(); err != syscall.EINTR {
			return err
		}
	}
}

func modeOf(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
	case syscall.S_IFDIR:
		m |= fs.ModeDir
	case syscall.S_IFLNK:
		m |= fs.ModeSymlink
	default:
		m |= fs.ModeIrregular
	}
	return m
}
