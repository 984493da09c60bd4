// Package vfs defines the file system interface of the stores and implements it for the real file
// system. Package vfstest implements it for tests.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// FS is a file system. Names follow the rules of package os.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Mkdir(name string, perm fs.FileMode) error
	MkdirAll(name string, perm fs.FileMode) error
	Remove(name string) error
	Rename(oldName, newName string) error
	// Info follows symbolic links.
	Info(name string) (Info, error)
	ReadDir(name string) (Dir, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// NewLock returns a lock for a file. Acquiring the lock creates a missing file.
	NewLock(name string) Lock
}

// File is an open file.
type File interface {
	io.Writer
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
	Info() (Info, error)
	Name() string
}

// Puncher is a File that can free parts of its disk space.
type Puncher interface {
	// Punch fills a range with zeros and frees the blocks that lie completely inside it.
	// The file's size does not change.
	Punch(off, n int64) error
}

// Cacher is a File in the operating system's page cache. Its methods are hints: the system may
// ignore them, and they do not intentionally wait for the disk.
type Cacher interface {
	// Prefetch starts to read a range into the cache.
	Prefetch(off, n int64)
	// WriteBack starts to write the changed pages of a range to the disk. It omits a page at the end
	// that is only partly in the range.
	WriteBack(off, n int64)
	// Evict removes a range from the cache, except pages that are not yet on the disk.
	Evict(off, n int64)
	// Evicted returns how many bytes of a range the system has removed from the cache to free
	// memory. It does not count bytes that Evict removed. It returns 0 if the number is unknown.
	Evicted(off, n int64) int64
}

// Info describes a file. It must not contain pointers, so that returning it does not allocate memory.
type Info struct {
	Size  int64
	Disk  int64  // space used on disk in bytes
	Links uint64 // number of hard links; 0 if the file was removed while open
	Dev   uint64
	Ino   uint64
	Mode  fs.FileMode
	// MTime and CTime are when the content and the inode last changed, in nanoseconds since 1970.
	MTime, CTime int64
}

// SameFile reports whether two Infos describe the same file.
func (i Info) SameFile(o Info) bool { return i.Dev == o.Dev && i.Ino == o.Ino }

// Dir reads a directory in batches.
type Dir interface {
	// Next returns up to n entries. After the last entry, it returns io.EOF. If n is not positive, Next returns
	// all remaining entries without io.EOF.
	Next(n int) ([]fs.DirEntry, error)
	Close() error
}

// Lock is an advisory lock on a whole file between processes, like flock(2). If a process needs
// the same lock twice, it must create two Locks.
type Lock interface {
	// TryLock acquires the lock if it is free and reports whether it did.
	TryLock(exclusive bool) (bool, error)
	// Lock waits until it acquires the lock.
	Lock(exclusive bool) error
	Unlock() error
	// Info describes the locked file, even if its name now refers to another file.
	Info() (Info, error)
}

// SpaceReporter is an FS that knows its free space.
type SpaceReporter interface {
	// Free returns the free space of a directory's disk in bytes.
	Free(dir string) (int64, error)
}

// NetworkReporter is an FS that knows network file systems. There, flock may exclude only processes of
// the same machine, or of the same mount.
type NetworkReporter interface {
	// Network returns the kind of network file system that contains a directory, such as "NFS", or "".
	Network(dir string) string
}

// NetworkOf returns the kind of network file system that contains a directory, or "" if it is local or unknown.
func NetworkOf(fsys FS, dir string) string {
	if r, ok := fsys.(NetworkReporter); ok {
		return r.Network(dir)
	}
	return ""
}

// LinkChecker is an FS with symbolic links. An FS without this interface has no links.
type LinkChecker interface {
	IsLink(name string) (bool, error)
}

// RefuseLink returns an error if a store's directory is a symbolic link. The directory can be missing.
func RefuseLink(fsys FS, dir string) error {
	l, ok := fsys.(LinkChecker)
	if !ok {
		return nil
	}
	isLink, err := l.IsLink(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if isLink {
		return errors.New("it is a symbolic link: use the directory that it points to")
	}
	return nil
}
